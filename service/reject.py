"""Reject a suggestion: the reason is what the next run learns from."""

import datetime as dt

from sqlalchemy.ext.asyncio import AsyncConnection

from domain.suggestions import Suggestion
from service.find import pending_suggestion, suggestion_of
from storage.audit import append_audit
from storage.suggestions import decide_suggestion


async def reject(
    connection: AsyncConnection, suggestion_id: int, *, reason: str, actor: str, now: dt.datetime
) -> Suggestion:
    """Pending becomes rejected; the same is refused by the gate from now on, with this reason.

    Raises
    ------
    SuggestionNotFound, SuggestionDecided
    """
    await pending_suggestion(connection, suggestion_id)
    await decide_suggestion(connection, suggestion_id, status="rejected", by=actor, now=now, reason=reason)
    await append_audit(
        connection,
        actor=actor,
        action="reject",
        record_type="suggestion",
        record_id=suggestion_id,
        now=now,
        before={"status": "pending"},
        after={"status": "rejected", "reason": reason},
    )
    return await suggestion_of(connection, suggestion_id)
