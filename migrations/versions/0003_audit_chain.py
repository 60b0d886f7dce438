"""The audit as a chain: every entry carries a hash of itself and of the entry before it."""

import datetime as dt
import hashlib

import msgspec
import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

GENESIS = "0" * 64
SAID = ("actor", "action", "record_type", "record_id", "before", "after")


def upgrade() -> None:
    """Chain the entries that there are, in the order of their ids."""
    for name in ("previous_hash", "hash"):
        op.add_column("audit", sa.Column(name, sa.Text(), nullable=False, server_default=""))
    _let_change(True)
    _chain()
    _let_change(False)
    # Two entries after the same one: a chain does not fork, whoever writes.
    op.create_index("uq_audit_previous_hash", "audit", ["previous_hash"], unique=True)
    if op.get_bind().dialect.name == "postgresql":  # SQLite cannot take a default back
        for name in ("previous_hash", "hash"):
            op.alter_column("audit", name, server_default=None)


def downgrade() -> None:
    """Entries stay, without their hashes."""
    op.drop_index("uq_audit_previous_hash", "audit")
    op.drop_column("audit", "hash")
    op.drop_column("audit", "previous_hash")


def _let_change(is_allowed: bool) -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"ALTER TABLE audit {'DISABLE' if is_allowed else 'ENABLE'} TRIGGER audit_no_change")
    elif is_allowed:
        op.execute("DROP TRIGGER audit_no_update")
    else:
        op.execute(
            "CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit "
            "BEGIN SELECT RAISE(ABORT, 'audit rows never change'); END"
        )


def _chain() -> None:
    connection = op.get_bind()
    json = sa.JSON(none_as_null=True)
    audit = sa.table(
        "audit",
        sa.column("id", sa.BigInteger()),
        sa.column("at", sa.DateTime(timezone=True)),
        *(sa.column(name, sa.Text()) for name in SAID[:4]),
        *(sa.column(name, json) for name in SAID[4:]),
        sa.column("previous_hash", sa.Text()),
        sa.column("hash", sa.Text()),
    )
    previous_hash = GENESIS
    for row in connection.execute(sa.select(audit).order_by(audit.c.id)).all():
        # Written out, not imported from domain.audit: what was done stays done when that changes.
        at = row.at.replace(tzinfo=dt.UTC) if row.at.tzinfo is None else row.at.astimezone(dt.UTC)
        said = {name: getattr(row, name) for name in SAID}
        said |= {"at": at.isoformat(timespec="microseconds"), "previous_hash": previous_hash}
        digest = hashlib.sha256(msgspec.json.encode(said, order="deterministic")).hexdigest()
        change = sa.update(audit).where(audit.c.id == row.id)
        connection.execute(change.values(previous_hash=previous_hash, hash=digest))
        previous_hash = digest
