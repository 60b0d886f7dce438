"""What the client raises. The docstring is the message, its fields are the data."""

from typing import Any


class PromptBanditError(Exception):
    """Something went wrong in PromptBandit's client."""

    def __init__(self, **data: Any) -> None:
        super().__init__((type(self).__doc__ or "").format(**data))


class NoPromptAvailable(PromptBanditError):
    """No prompt for {prompt!r}: {reason}. Give Client(fallbacks={{{prompt!r}: ...}}) a prompt to use meanwhile."""

    def __init__(self, *, prompt: str, reason: str) -> None:
        super().__init__(prompt=prompt, reason=reason)
        self.prompt = prompt
        self.reason = reason


class Refused(PromptBanditError):
    """The server refused prompt {prompt!r} with {status}: {detail}. {next_step}."""

    def __init__(self, *, prompt: str, status: int, problem: dict[str, Any]) -> None:
        detail = problem.get("detail") or problem.get("title") or "no reason given"
        next_step = _NEXT_STEPS.get(status, "Check base_url: this is not how PromptBandit answers")
        super().__init__(prompt=prompt, status=status, detail=detail, next_step=next_step)
        self.prompt = prompt
        self.status = status
        self.problem = problem


class ClientClosed(PromptBanditError):
    """The client is closed, so the outcome of {unit_id!r} cannot be delivered; record before close()."""


_NEXT_STEPS = {
    401: "Check the key, or make a new one with `promptbandit keys create --scope agent`",
    403: "Use a key of scope agent",
    404: "Check the prompt's name and base_url; POST /prompts creates a prompt",
    422: "Correct the arguments of assign(); `problem` says which",
}
