"""Keys: what is public in them, what is stored, what they open."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.keys import SCOPES, Scope, grants, hash_secret, mint, prefix_of

SIX, MANY = st.binary(min_size=6, max_size=6), st.binary(min_size=32, max_size=32)


@given(st.sampled_from(SCOPES), SIX, MANY)
def test_a_key_tells_its_scope_and_prefix_and_hides_its_secret(scope: Scope, public: bytes, secret: bytes):
    text, prefix, stored = mint(scope, prefix_bytes=public, secret_bytes=secret)
    assert text.startswith(f"pb_{scope}_{prefix}_")
    assert prefix_of(text) == prefix == public.hex()
    assert stored == hash_secret(text)
    assert text.split("_")[3][:-8] not in stored + prefix


@given(SIX, MANY, st.data())
def test_a_typing_error_is_no_key(public: bytes, secret: bytes, data: st.DataObject):
    """The checksum finds it without asking the database."""
    text, _, _ = mint("agent", prefix_bytes=public, secret_bytes=secret)
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from([c for c in "abcdefgh01234567_é" if c != text[place]]))
    assert prefix_of(text[:place] + other + text[place + 1 :]) is None


@pytest.mark.parametrize(
    "text", ["", "pb", "pb_agent", "pb_root_aabb_ccdd", "x" * 100_000, "____", "pb_agent__\x00"]
)
def test_noise_is_no_key(text: str):
    assert prefix_of(text) is None


def test_a_manager_may_do_everything_and_the_others_their_own():
    granted = {(have, need) for have in SCOPES for need in SCOPES if grants((have,), need)}
    assert granted == {(scope, scope) for scope in SCOPES} | {("manager", scope) for scope in SCOPES}
