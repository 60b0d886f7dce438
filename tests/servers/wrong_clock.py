"""A server whose machine's clock is off by WRONG_CLOCK_S seconds."""

import datetime as dt
import os

from api.app import create_app
from api.clock import utc_now
from api.gate import Gate


def create() -> Gate:
    off = dt.timedelta(seconds=float(os.environ["WRONG_CLOCK_S"]))
    return create_app(clock=lambda: utc_now() + off)
