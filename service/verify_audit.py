"""Check that the audit is as it was written: nothing changed, nothing removed from its middle."""

from collections.abc import AsyncIterator

from sqlalchemy.ext.asyncio import AsyncConnection

from domain.audit import GENESIS, AuditEntry
from domain.fields import Record
from storage.audit import audit_after

PAGE = 1_000


class VerifiedAudit(Record, frozen=True, kw_only=True):
    """How far the chain holds.

    `entries` and `head` (the hash of the last one) are of the part that holds. Whether the newest entries
    were removed no chain can tell: keep `head` elsewhere and see later that it `has_kept_head`.
    """

    entries: int
    head: str
    problem: str | None = None
    has_kept_head: bool = True


async def verify_audit(connection: AsyncConnection, *, kept_head: str | None = None) -> VerifiedAudit:
    """Follow the chain from its beginning to the first entry that is not as it was written."""
    entries, head, last_id = 0, GENESIS, None
    is_found = kept_head in (None, head)
    async for entry in _all(connection):
        problem = _problem(entry, head, last_id)
        if problem is not None:
            return VerifiedAudit(entries=entries, head=head, problem=problem, has_kept_head=is_found)
        entries, head, last_id = entries + 1, entry.hash, entry.id
        is_found = is_found or head == kept_head
    return VerifiedAudit(entries=entries, head=head, has_kept_head=is_found)


async def _all(connection: AsyncConnection) -> AsyncIterator[AuditEntry]:
    last_id = -(2**63)  # whoever changes entries may change ids, too
    while page := await audit_after(connection, last_id, limit=PAGE):
        for entry in page:
            yield entry
        last_id = page[-1].id


def _problem(entry: AuditEntry, head: str, last_id: int | None) -> str | None:
    if not entry.is_as_written:
        return f"entry {entry.id} is not what was written"
    if entry.previous_hash != head:
        place = "is not the first that was written" if last_id is None else f"does not follow entry {last_id}"
        return f"entry {entry.id} {place}; entries are missing or in another order"
    return None
