"""Cursors: sealed, bound to their list, and refused in one way whatever is wrong with them."""

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.secret import Aead

from ai_admin.cursors import CursorInvalid, Position, seal, unseal

# The same examples in each run, and no limit of time on a busy machine.
FIXED = settings(derandomize=True, deadline=None)

KEY = (b"k" * 32,)
LIST = b'users{"sort":"tag"}'
POSITION = Position("ada", "01890a5d-ac96-774b-bcce-b302099a8057")
texts = st.text(st.characters(exclude_categories=["Cs"]))


@FIXED
@given(key=texts, row_id=texts, asked=st.binary())
def test_a_cursor_leads_back_to_its_position(key: str, row_id: str, asked: bytes) -> None:
    """Whatever a row is sorted by survives the way through a URL."""
    cursor = seal(Position(key, row_id), asked, KEY)
    assert unseal(cursor, asked, KEY) == Position(key, row_id)
    assert cursor.isascii()
    assert cursor.replace("-", "").replace("_", "").isalnum(), "it needs no encoding in a URL"


def test_a_cursor_cannot_be_read() -> None:
    """It holds people's names and addresses, and URLs end in logs: nothing of it shows, not even a repetition."""
    cursor = seal(POSITION, LIST, KEY)
    raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    assert b"ada" not in raw
    assert POSITION.id.encode() not in raw
    assert seal(POSITION, LIST, KEY) != cursor


@pytest.mark.parametrize(
    ("asked", "key"),
    [(b"", KEY), (LIST + b" ", KEY), (b'users{"sort":"name"}', KEY), (LIST, (b"K" * 32,)), (LIST, (bytes(32),))],
)
def test_a_cursor_of_another_list_or_deployment(asked: bytes, key: tuple[bytes, ...]) -> None:
    """The list and the key are part of the seal."""
    with pytest.raises(CursorInvalid):
        unseal(seal(POSITION, LIST, KEY), asked, key)


def test_every_bit_counts() -> None:
    """No bit can be turned, and no cursor has a second spelling."""
    cursor = seal(POSITION, LIST, KEY)
    padded = cursor + "=" * (-len(cursor) % 4)
    raw = base64.urlsafe_b64decode(padded)
    for index in range(len(raw)):
        for bit in range(8):
            changed = raw[:index] + bytes([raw[index] ^ 1 << bit]) + raw[index + 1 :]
            with pytest.raises(CursorInvalid):
                unseal(base64.urlsafe_b64encode(changed).rstrip(b"=").decode(), LIST, KEY)
    for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=+/ \n":
        if letter != cursor[-1]:
            with pytest.raises(CursorInvalid):
                unseal(cursor[:-1] + letter, LIST, KEY)
    for spelling in (cursor + "=", padded + "=", cursor + "\n", " " + cursor):
        with pytest.raises(CursorInvalid):
            unseal(spelling, LIST, KEY)


def test_plus_and_slash_are_no_second_spelling() -> None:
    """The two alphabets of base64 are not mixed."""
    cursors = (seal(POSITION, LIST, KEY) for _ in range(1000))
    cursor = next(cursor for cursor in cursors if "-" in cursor and "_" in cursor)
    for one, other in (("-", "+"), ("_", "/")):
        with pytest.raises(CursorInvalid):
            unseal(cursor.replace(one, other), LIST, KEY)


@FIXED
@given(st.text())
def test_anything_else_is_refused(text: str) -> None:
    """There is one error for all of it, and never another one."""
    with pytest.raises(CursorInvalid):
        unseal(text, LIST, KEY)


@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 23, 24, 25, 39, 40, 41, 100])
def test_anything_cut_is_refused(length: int) -> None:
    """Nonce and tag have their lengths; shorter texts do not trip the library up."""
    raw = base64.urlsafe_b64decode(seal(Position("x" * 100, "y"), LIST, KEY) + "===")[:length]
    with pytest.raises(CursorInvalid):
        unseal(base64.urlsafe_b64encode(raw).rstrip(b"=").decode(), LIST, KEY)


def test_what_the_key_has_sealed_for_something_else_is_no_cursor() -> None:
    """The associated data begins with the format, so that a ciphertext of another purpose does not open."""
    other = base64.urlsafe_b64encode(Aead(KEY[0]).encrypt(b'["ada","x"]', LIST)).rstrip(b"=").decode()
    with pytest.raises(CursorInvalid):
        unseal(other, LIST, KEY)


def test_cursors_of_two_generations_of_a_key_open_in_both() -> None:
    """While the key is changed in two steps, pods with the old and the new setting answer side by side."""
    old, new = b"o" * 32, b"n" * 32
    for before, after in [((old,), (old, new)), ((old, new), (new, old)), ((new, old), (new,))]:
        assert unseal(seal(POSITION, LIST, before), LIST, after) == POSITION
        assert unseal(seal(POSITION, LIST, after), LIST, before) == POSITION
    with pytest.raises(CursorInvalid):
        unseal(seal(POSITION, LIST, (new, old)), LIST, (old,))
