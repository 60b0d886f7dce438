"""What an optimizer wrote down of calls, without the words of those that are forgotten.

A quote goes by the call that it names. Everything else that a model wrote goes where it holds four words in a row
that were said in such a call: rather too much than too little, for a title that is lost harms nobody.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from domain.outcomes import Turn
from domain.text_forms import words

FORGOTTEN = "(forgotten)"
RUN = 4  # words in a row
# What stands in these fields of a note or a quote is the call's, or about it.
_ABOUT = ("quote", "root_cause", "prompt_section")

type Words = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Gone:
    """Calls that are forgotten, by what they are known by.

    Attributes
    ----------
    labels : Their names within a run.
    said : Every run of four words that was spoken in them.
    """

    units: frozenset[str]
    labels: frozenset[str]
    said: frozenset[Words]

    def holds(self, text: str) -> bool:
        """Whether the text has words of theirs."""
        return any(run in self.said for run in _runs(words(text)))

    def is_about(self, record: Mapping[str, Any]) -> bool:
        """Whether a note or a quote names one of them."""
        return record.get("unit_id", "") in self.units or record.get("call", "") in self.labels


def gone(units: Collection[str], transcripts: Iterable[Sequence[Turn]], sample: Any = None) -> Gone:
    """The calls of these units, whose transcripts were these, as a run with this sample knows them."""
    labels = labels_of(sample)
    return Gone(
        units=frozenset(units),
        labels=frozenset(labels[unit] for unit in units if unit in labels),
        said=frozenset(run for turns in transcripts for turn in turns for run in _runs(words(_text(turn)))),
    )


def without(value: Any, of: Gone) -> Any:
    """JSON with the marker in the place of every text of these calls; numbers and names of fields stay."""
    if isinstance(value, str):
        return FORGOTTEN if of.holds(value) else value
    if isinstance(value, list):
        return [without(item, of) for item in value]
    if not isinstance(value, dict):
        return value
    if _names_a_call(value) and of.is_about(value):
        return _emptied(value)
    # A quote of another call is what was said there, though it were the same.
    return {name: item if name == "quote" else without(item, of) for name, item in value.items()}


def _names_a_call(record: Mapping[str, Any]) -> bool:
    return isinstance(record.get("unit_id", ""), str) and isinstance(record.get("call", ""), str)


def labels_of(sample: Any) -> dict[str, str]:
    """The names, by unit, that the calls of the half that is read have in a run; as `optimizer.window.labelled`."""
    parts = [] if not isinstance(sample, Mapping) else [*sample.get("failing", ()), *sample.get("good", ())]
    read = [call["unit_id"] for call in parts if call.get("half") == "read"]
    return {unit_id: f"c{number}" for number, unit_id in enumerate(read, start=1)}


def _emptied(value: Any, name: str = "") -> Any:
    """A record about such a call: its texts go, whichever words they hold."""
    if isinstance(value, dict):
        return {key: _emptied(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [_emptied(item, name) for item in value]
    return FORGOTTEN if isinstance(value, str) and name in _ABOUT else value


def _runs(said: Words) -> Iterator[Words]:
    return (said[i : i + RUN] for i in range(len(said) - RUN + 1))


def _text(turn: Turn) -> str:
    """A model was shown what tools were called with, too."""
    return f"{turn.content or ''}\n{turn.tool_calls or ''}"
