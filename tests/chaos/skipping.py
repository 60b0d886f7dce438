"""What these tests need of the machine, and how they say that it is not there."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.chaos.image import NoImage
from tests.postgres import PostgresUnavailable


@contextmanager
def skipping() -> Iterator[None]:
    """Skip with the reason where there is no PostgreSQL, or nothing may be mounted."""
    try:
        yield
    except PostgresUnavailable as reason:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no PostgreSQL here: {reason}")
    except NoImage as reason:
        pytest.skip(f"no power to cut here: {reason}")
