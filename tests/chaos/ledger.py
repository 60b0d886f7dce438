"""What the agents saw, one line an event, only ever appended; times are of the monotonic clock, in seconds."""

from collections.abc import Iterable
from pathlib import Path

import msgspec

SETTLED = (
    "accepted",
    "unchanged",
    "parked",
    "revised",
)  # acknowledged; "rejected" and what else may come is not


class Event(msgspec.Struct, frozen=True, kw_only=True, tag=True, array_like=True):
    """A line of a ledger; its first field says which event it is."""

    at: float


class Asked(Event, frozen=True, kw_only=True):
    """A call asked for its prompt: `late_s` after it was due, and waited `seconds` for it.

    `first` is False where the call asks again. `problem` is what was raised instead of an answer.
    """

    unit: str
    first: bool
    late_s: float
    seconds: float
    source: str = ""
    reason: str = ""
    variant: str | None = None
    allocation: int | None = None
    content_hash: str = ""
    problem: str = ""


class Told(Event, frozen=True, kw_only=True):
    """An outcome was handed to a client's sender."""

    unit: str
    metrics: dict[str, float]
    allocation: int | None
    copy: bool = False


class Acked(Event, frozen=True, kw_only=True):
    """The server answered for an outcome, in these words."""

    unit: str
    status: str
    copy: bool = False


class Refused(Event, frozen=True, kw_only=True):
    """Why an outcome was rejected."""

    unit: str
    why: str


class Sums(Event, frozen=True, kw_only=True):
    """The clients' counts of one process since its start: the last such line counts.

    `items` is how many outcomes all requests together carried.
    """

    recorded: int
    sent: int
    dropped: int
    waiting: int
    attempts: int
    items: int


Line = Asked | Told | Acked | Refused | Sums


class Pen:
    """Appends lines to one file; each is there for a reader before `write` returns."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def write(self, event: Line) -> None:
        self._file.write(msgspec.json.encode(event) + b"\n")  # one write(2) with O_APPEND: threads do not mix

    def close(self) -> None:
        self._file.close()


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """What all agents of a run saw."""

    asked: list[Asked] = []
    told: list[Told] = []
    acked: list[Acked] = []
    refused: list[Refused] = []
    sums: list[Sums] = []

    def until(self, at: float) -> "Ledger":
        """What had been seen by then."""
        parts = {name: [e for e in getattr(self, name) if e.at <= at] for name in self.__struct_fields__}
        return Ledger(**parts)


def read_ledger(paths: Iterable[Path]) -> Ledger:
    """The ledgers of several processes as one; a line that is still being written is left out."""
    asked: list[Asked] = []
    told: list[Told] = []
    acked: list[Acked] = []
    refused: list[Refused] = []
    sums: list[Sums] = []
    into = {Asked: asked, Told: told, Acked: acked, Refused: refused}
    decoder = msgspec.json.Decoder(Line)
    for path in paths:
        last: Sums | None = None
        for line in path.read_bytes().split(b"\n")[:-1]:
            event = decoder.decode(line)
            if isinstance(event, Sums):
                last = event
            else:
                into[type(event)].append(event)
        sums += [last] if last is not None else []
    return Ledger(asked=asked, told=told, acked=acked, refused=refused, sums=sums)
