"""API keys: who may do what. The secret is shown once; only its hash is stored."""

import base64
import datetime as dt
import hashlib
import hmac
import zlib
from typing import Literal

from domain.fields import Record

Scope = Literal["agent", "analyst", "optimizer", "manager"]
SCOPES: tuple[Scope, ...] = ("agent", "analyst", "optimizer", "manager")


class ApiKey(Record, frozen=True, kw_only=True):
    """A key as it is stored: never the secret, only its SHA-256."""

    prefix: str
    secret_hash: str
    scopes: tuple[Scope, ...]
    name: str
    created_at: dt.datetime
    last_used_at: dt.datetime | None = None
    revoked_at: dt.datetime | None = None

    @property
    def label(self) -> str:
        """How the audit names the holder."""
        return f"key:{self.prefix}" + (f" ({self.name})" if self.name else "")


def grants(scopes: tuple[Scope, ...], needed: Scope) -> bool:
    """Whether a key with `scopes` may do what needs scope `needed`; a manager may do everything."""
    return needed in scopes or "manager" in scopes


def mint(scope: Scope, *, prefix_bytes: bytes, secret_bytes: bytes) -> tuple[str, str, str]:
    """The text of a new key, its prefix and the hash to store.

    `pb_<scope>_<prefix>_<secret><checksum>`: 256 random bits and a CRC-32, so that a secret scanner
    and a person can tell a key from noise and a typing error from a wrong key.
    """
    prefix = prefix_bytes.hex()
    secret = base64.b32encode(secret_bytes).decode().rstrip("=").lower()
    body = f"pb_{scope}_{prefix}_{secret}"
    text = body + checksum(body)
    return text, prefix, hash_secret(text)


def checksum(body: str) -> str:
    """Eight hex digits over everything before them."""
    return f"{zlib.crc32(body.encode()):08x}"


def prefix_of(text: str) -> str | None:
    """The public part of a key, or None when the text cannot be a key of ours."""
    parts = text.split("_")
    if len(text) > 200 or len(parts) != 4 or parts[0] != "pb" or parts[1] not in SCOPES:
        return None
    return parts[2] if hmac.compare_digest(checksum(text[:-8]).encode(), text[-8:].encode()) else None


def hash_secret(text: str) -> str:
    """SHA-256 (hex) of the whole key; 256 random bits need no slow hash."""
    return hashlib.sha256(text.encode()).hexdigest()


def matches(key: ApiKey, text: str) -> bool:
    """Whether `text` is this key, compared in constant time."""
    return hmac.compare_digest(key.secret_hash, hash_secret(text))
