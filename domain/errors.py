"""What can go wrong, in words. The docstring is the message, its fields are the data.

`api/problems.py` says how each looks in HTTP; `docs/errors.md` lists all (a test compares).
"""

from collections.abc import Sequence
from typing import Any

MAX_ECHO = 100  # characters of a value that a message repeats


class DomainError(Exception):
    """Something the caller can mend."""

    def __init__(self, **data: Any) -> None:
        self.data = data
        shown = {name: value[:MAX_ECHO] if isinstance(value, str) else value for name, value in data.items()}
        super().__init__((type(self).__doc__ or "").strip().format(**shown))


class InvalidValue(DomainError):
    """{problem}"""

    def __init__(self, *, pointer: str, problem: str) -> None:
        super().__init__(pointer=pointer, problem=problem)
        self.pointer = pointer
        self.args = (problem,)  # whole: it is our sentence, with its values already cut


class NotFound(DomainError):
    """Does not exist."""


class Conflict(DomainError):
    """Valid, but conflicts with what is stored."""


class PromptNotFound(NotFound):
    """There is no prompt named {name!r}; create its first version with POST /prompts."""


class VersionNotFound(NotFound):
    """There is no prompt version {version_id}; GET /prompts lists all."""


class ExperimentNotFound(NotFound):
    """There is no experiment {key!r}; GET /experiments lists all."""


class VariantNotFound(NotFound):
    """Experiment {key!r} has no variant {variant!r}."""


class AllocationNotFound(NotFound):
    """There is no allocation {allocation} of an experiment of this prompt; send the one POST /assignments gave."""


class KeyNotFound(NotFound):
    """There is no API key with prefix {prefix!r}; `promptbandit keys list` shows all."""


class NothingToServe(NotFound):
    """Prompt {name!r} has no active version; activate one with PATCH /prompts/{{id}}/activate."""


class SameContent(Conflict):
    """Version {number} (id {version_id}) of prompt {name!r} has the same system_prompt and tools_config; use it."""


class NameTaken(Conflict):
    """The name {name!r} is taken (names are compared without case); choose another."""


class ExperimentRunning(Conflict):
    """Experiment {key!r} already runs on prompt {prompt!r}; stop it first."""


class ExperimentStopped(Conflict):
    """Experiment {key!r} is stopped; start a new one."""


class VariantExists(Conflict):
    """Experiment {key!r} already has {what}; each variant has its own key and version."""


class VariantRetired(Conflict):
    """Variant {variant!r} of experiment {key!r} is retired; only a live variant can do this."""


class LastVariants(Conflict):
    """Variant {variant!r} cannot be retired: {reason}; stop the experiment instead."""


class NoVersion(Conflict):
    """Variant {variant!r} of experiment {key!r} has no stored prompt version; there is nothing to activate."""


class VersionOfOtherPrompt(Conflict):
    """Version {version_id} belongs to prompt {other!r}, not to {prompt!r}; compare versions of one prompt."""


class AllocationMismatch(Conflict):
    """Unit {unit_id!r} was assigned under allocation {recorded}, not {told}; leave `allocation` out."""


class ContentMismatch(Conflict):
    """Unit {unit_id!r} is recorded with content_hash {recorded}, not {told}: its call got another text."""


class NotAnAbTest(Conflict):
    """Experiment {key!r} has {variants} variants, an A/B test has two; see GET /experiments/{key}."""


class SuggestionNotFound(NotFound):
    """There is no suggestion {suggestion_id}; GET /suggestions lists all."""


class SuggestionWaits(Conflict):
    """Suggestion {suggestion_id} says the same and waits for its review; decide that one."""


class SuggestionDecided(Conflict):
    """Suggestion {suggestion_id} is {status} already; it is decided once."""


class SuggestionStale(Conflict):
    """Suggestion {suggestion_id} changes version {parent}, which is not active any more; propose it anew."""


class TextMismatch(Conflict):
    """Suggestion {suggestion_id} has text_hash {stored}, not {told}; read it again and decide about that text."""


class GateRefused(DomainError):
    """The gate refuses this suggestion, and nothing was stored"""

    def __init__(self, *, checks: Sequence[Any] = ()) -> None:
        super().__init__()
        self.checks = tuple(checks)
        names = ", ".join(check.name for check in self.failed)
        self.args = (f"{self.args[0]}: {names or 'no check'} failed; `errors` says what was found",)

    @property
    def failed(self) -> tuple[Any, ...]:
        """The checks (`domain.gate.Check`) that did not pass."""
        return tuple(check for check in self.checks if not check.passed)


class TimestampOutOfRange(InvalidValue):
    """{problem}"""
