"""Who called, without saying who: marks by which calls of one caller are known to be his, and nothing else is."""

import hashlib
import hmac


def mark_of(caller: str, *, key: str) -> str:
    """A keyed hash: equal for equal callers, and nobody without the key can try out who it may be.

    >>> mark_of("+1 202 555 0143", key="k") == mark_of("+1 202 555 0143", key="k")
    True
    >>> mark_of("+1 202 555 0143", key="k") == mark_of("+1 202 555 0143", key="other")
    False
    """
    said = caller.encode(errors="surrogatepass")
    return hmac.new(key.encode(errors="surrogatepass"), said, hashlib.sha256).hexdigest()
