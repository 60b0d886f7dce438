"""What the tables are made of."""

import sqlalchemy as sa

from storage.types import BigId, UtcDateTime

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def id_column() -> sa.Column[int]:
    """The primary key."""
    return sa.Column("id", BigId, primary_key=True)


def time_column(name: str, *, nullable: bool = False) -> sa.Column[object]:
    """A moment, UTC."""
    return sa.Column(name, UtcDateTime, nullable=nullable)


def reference(name: str, target: str, *, nullable: bool = False, index: bool = False) -> sa.Column[int]:
    """A foreign key."""
    return sa.Column(name, BigId, sa.ForeignKey(target), nullable=nullable, index=index)


def json_column(name: str, *, nullable: bool = False) -> sa.Column[object]:
    """JSON, not JSONB: the text that was hashed comes back as it was written."""
    return sa.Column(name, sa.JSON(none_as_null=True), nullable=nullable)


def text_columns(*names: str, nullable: bool = False) -> list[sa.Column[str]]:
    """Several texts."""
    return [sa.Column(name, sa.Text, nullable=nullable) for name in names]
