"""The schema's history (Alembic), and the one function that brings a database up to date."""

from migrations.run import migrate

__all__ = ["migrate"]
