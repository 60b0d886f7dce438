"""The client of PromptBandit: a prompt for every call, in time; every outcome delivered, once.

>>> from promptbandit import Client
>>> with Client("http://127.0.0.1:1", "key", {"support": "You are our support."}) as client:
...     client.assign("support", "call-1").source
'fallback'
"""

from promptbandit.client import Client
from promptbandit.errors import ClientClosed, NoPromptAvailable, PromptBanditError, Refused
from promptbandit.records import Assignment, Stats, Version

__all__ = [
    "Assignment",
    "Client",
    "ClientClosed",
    "NoPromptAvailable",
    "PromptBanditError",
    "Refused",
    "Stats",
    "Version",
]
