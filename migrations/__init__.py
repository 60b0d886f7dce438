"""The schema's history (Alembic), and the functions that bring a database up to date."""

from migrations.run import migrate, migrate_if_empty

__all__ = ["migrate", "migrate_if_empty"]
