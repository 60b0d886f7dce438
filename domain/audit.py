"""The audit: who did what."""

import datetime as dt

from domain.fields import JsonObject, Record


class AuditEntry(Record, frozen=True, kw_only=True):
    """One act on one record, with what it was before and after."""

    id: int
    at: dt.datetime
    actor: str
    action: str
    record_type: str
    record_id: str
    before: JsonObject | None
    after: JsonObject | None
