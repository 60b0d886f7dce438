"""The audit: who did what, as a chain in which each entry holds the one before it."""

import datetime as dt
import hashlib

from domain.fields import JsonObject, Record
from domain.prompts import canonical_json

GENESIS = "0" * 64  # what the first entry follows


class AuditAct(Record, frozen=True, kw_only=True):
    """One act on one record, with what it was before and after."""

    at: dt.datetime
    actor: str
    action: str
    record_type: str
    record_id: str
    before: JsonObject | None
    after: JsonObject | None

    def hash_after(self, previous_hash: str) -> str:
        """SHA-256 (hex) of everything that is said here and of the hash of the entry before it.

        The id is left out: it is the database's, and the order of the entries stands in the chain.
        """
        said = {name: getattr(self, name) for name in AuditAct.__struct_fields__}
        at = self.at.astimezone(dt.UTC).isoformat(timespec="microseconds")
        return hashlib.sha256(canonical_json(said | {"at": at, "previous_hash": previous_hash})).hexdigest()


class AuditEntry(AuditAct, frozen=True, kw_only=True):
    """An act as it stands in the audit. Whoever keeps a hash can show later that it was there."""

    id: int
    previous_hash: str
    hash: str

    @property
    def is_as_written(self) -> bool:
        """Whether the hash is that of the entry."""
        return self.hash == self.hash_after(self.previous_hash)
