"""The vault's ciphertexts: readable for ever, bound to their place, refused in one way, and silent."""

import base64
import copy
import dataclasses
import hashlib
import io
import itertools
import json
import logging
import pickle
import pprint
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

import vault
from ai_admin.logs import JsonLines
from ai_admin.vault.ciphertext import Context, VaultError, key_id_of
from ai_admin.vault.keyring import KeyRing
from ai_admin.vault.secret_value import SecretValue
from tests import vault_format as second
from tests.conftest import ROOT
from tests.keyrings import entry, logged, ring_of

# The same examples in each run, and no limit of time on a busy machine.
FIXED = settings(derandomize=True, deadline=None)

FOLDER = ROOT / "tests" / "vectors"
VECTORS = json.loads((FOLDER / "vault-format-1.json").read_text(encoding="utf-8"))
VECTOR_KEYS = {key_id: base64.b64decode(key) for key_id, key in VECTORS["keys"].items()}
VECTOR_RING = ring_of(
    *(entry(key_id, key, "active") for key_id, key in VECTOR_KEYS.items()), entry("later", b"l" * 32, "primary")
)

# These are under the same keys.
BOUND_VECTORS = json.loads((FOLDER / "vault-format-2.json").read_text(encoding="utf-8"))

KEY = b"canary-key-canary-key-canary-key"
OTHER_KEY = b"another-key-another-key-another-"
VALUE = b"canary-value"
RING = ring_of(entry("old", OTHER_KEY), entry("2026-11", KEY, "primary"))
PLACE = ("user_secrets", "value", "01890a5d-ac96-774b-bcce-b302099a8057")
CONTEXT = Context(*PLACE)
NONCE = bytes(range(24))
SEALED = RING.seal(VALUE, CONTEXT)

places = st.tuples(*[st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)] * 3)


def place_of(case: dict[str, str]) -> tuple[str, str, str]:
    """Where a vector stands."""
    return case["table"], case["column"], case["row"]


def refusal(ciphertext: bytes, context: Context = CONTEXT, ring: KeyRing = RING) -> str:
    """Assert that it does not open, with the one error that there is; give why, as the log says it."""
    with logged() as lines, pytest.raises(VaultError) as caught:
        ring.open(ciphertext, context)
    assert type(caught.value) is VaultError
    assert (str(caught.value), caught.value.args) == ("The sealed value cannot be opened.", ())
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    (line,) = lines.getvalue().splitlines()
    assert json.loads(line)["level"] == "WARNING"
    return str(json.loads(line)["why"])


# The second implementation


def test_the_second_implementation_is_right() -> None:
    """What it confirms below is worth as much as it is: it gives the figures that the documents publish."""
    published = json.loads((FOLDER / "chacha-published.json").read_text(encoding="utf-8"))
    count_up, from_80 = bytes(range(32)), bytes(range(0x80, 0xA0))
    message = (
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
        b"sunscreen would be it."
    )
    associated = bytes.fromhex("50515253c0c1c2c3c4c5c6c7")
    made = {
        "RFC 8439, 2.3.2": second.chacha20_block(count_up, 1, bytes.fromhex("000000090000004a00000000")),
        "RFC 8439, 2.5.2": second.poly1305(
            bytes.fromhex("85d6be7857556d337f4452fe42d506a80103808afb0db2fd4abff6af4149f51b"),
            b"Cryptographic Forum Research Group",
        ),
        "RFC 8439, 2.8.2": second.chacha20_poly1305(
            from_80, bytes.fromhex("070000004041424344454647"), message, associated
        ),
        "draft-irtf-cfrg-xchacha-03, 2.2.1": second.hchacha20(
            count_up, bytes.fromhex("000000090000004a0000000031415927")
        ),
        "draft-irtf-cfrg-xchacha-03, A.3.1": second.xchacha20_poly1305(
            from_80, bytes(range(0x40, 0x58)), message, associated
        ),
    }
    assert {source: figure.hex() for source, figure in made.items()} == {
        source: figure for source, figure in published.items() if source != "about"
    }


# Ciphertexts of earlier versions


@pytest.mark.parametrize("case", VECTORS["cases"], ids=[case["name"] for case in VECTORS["cases"]])
def test_ciphertexts_of_today_open_for_ever(case: dict[str, str]) -> None:
    """What a customer has sealed with any version opens in this one."""
    ciphertext, value = base64.b64decode(case["ciphertext"]), base64.b64decode(case["value"])
    assert key_id_of(ciphertext) == case["keyId"]
    assert VECTOR_RING.open(ciphertext, Context(*place_of(case))) == value


@pytest.mark.parametrize("case", VECTORS["cases"], ids=[case["name"] for case in VECTORS["cases"]])
def test_ciphertexts_of_today_are_as_documented(case: dict[str, str]) -> None:
    """Who lost this program can still open them, with the documents in hand."""
    ciphertext, value = base64.b64decode(case["ciphertext"]), base64.b64decode(case["value"])
    assert second.unseal(ciphertext, place_of(case), VECTOR_KEYS) == value
    nonce = ciphertext[3 + len(case["keyId"]) :][:24]
    assert second.seal(value, place_of(case), case["keyId"], VECTOR_KEYS[case["keyId"]], nonce) == ciphertext


def test_the_largest_value_of_today_opens_for_ever() -> None:
    """A value of 64 KiB; its ciphertext is made again from its nonce, and is the one of its day by its digest."""
    case = VECTORS["large"]
    value = hashlib.shake_256(case["valueIsShake256Of"].encode()).digest(case["valueBytes"])
    key_id, nonce = case["keyId"], base64.b64decode(case["nonce"])
    ciphertext = second.seal(value, place_of(case), key_id, VECTOR_KEYS[key_id], nonce)
    assert hashlib.sha256(ciphertext).hexdigest() == case["ciphertextSha256"]
    assert VECTOR_RING.open(ciphertext, Context(*place_of(case))) == value


def test_the_vectors_are_those_of_their_day() -> None:
    """A vector that was changed to suit the code would prove nothing."""
    digest = hashlib.sha256(json.dumps(VECTORS["cases"][:12], sort_keys=True).encode()).hexdigest()
    assert digest == "75d85eadea042f396b98806898fa65e90eee0837f64a7fdeec82e7db20e3dbbb"


# Format 2, which is bound to other values of the row too

BOUND = ("01890a5d-ac96-774b-bcce-b302099a8057", "openai", "azure")
OF_ROW = Context(*PLACE, BOUND)


@pytest.mark.parametrize("case", BOUND_VECTORS["cases"], ids=[case["name"] for case in BOUND_VECTORS["cases"]])
def test_ciphertexts_of_format_2_open_for_ever_and_are_as_documented(case: dict[str, Any]) -> None:
    """What a customer has sealed opens in every later version, and with the documents alone."""
    ciphertext, value = base64.b64decode(case["ciphertext"]), base64.b64decode(case["value"])
    key_id, bound = case["keyId"], tuple(case["bound"])
    assert key_id_of(ciphertext) == key_id
    assert VECTOR_RING.open(ciphertext, Context(*place_of(case), bound)) == value
    assert second.unseal(ciphertext, place_of(case), VECTOR_KEYS, bound) == value
    nonce = ciphertext[3 + len(key_id) :][:24]
    assert second.seal(value, place_of(case), key_id, VECTOR_KEYS[key_id], nonce, bound) == ciphertext


@pytest.mark.parametrize(
    "bound",
    [
        (), BOUND[:2], BOUND[1:], BOUND[::-1], (*BOUND, "more"), ("01890a5d-ac96-774b-bcce-b302099a8058", *BOUND[1:]),
        (BOUND[0], "openaia", "zure"), (*BOUND[:2], "openai"),
    ],
)  # fmt: skip
def test_a_value_in_another_row_of_the_same_place_does_not_open(bound: tuple[str, ...]) -> None:
    """UPDATE user_secrets SET user_id hands nobody's credential to another user."""
    sealed = RING.seal(VALUE, OF_ROW)
    assert RING.open(sealed, OF_ROW) == VALUE
    assert refusal(sealed, Context(*PLACE, bound)) == "it is damaged, or of another place, or another key had this id"


def test_a_value_that_was_not_bound_opens_as_it_did_and_cannot_pass_for_one_that_is() -> None:
    """Values of before go on to work; the first byte of a bound one cannot be changed to make it an unbound one."""
    assert RING.open(SEALED, OF_ROW) == VALUE
    for sealed, first in ((RING.seal(VALUE, OF_ROW), b"\x01"), (SEALED, b"\x02")):
        refusal(first + sealed[1:], OF_ROW)
        refusal(first + sealed[1:])


# There and back


@FIXED
@given(
    value=st.binary(max_size=300),
    place=places,
    key=st.binary(min_size=32, max_size=32).filter(lambda key: len(set(key)) > 1),
)
def test_what_is_sealed_opens_at_its_place(value: bytes, place: tuple[str, str, str], key: bytes) -> None:
    """Any bytes at any place come back as they were, and both implementations agree."""
    ring = ring_of(entry("k", key, "primary"))
    ciphertext = ring.seal(value, Context(*place))
    assert ring.open(ciphertext, Context(*place)) == value
    assert second.unseal(ciphertext, place, {"k": key}) == value
    assert ring.open(second.seal(value, place, "k", key, NONCE), Context(*place)) == value


def test_no_nonce_is_used_twice() -> None:
    """Two ciphertexts under one nonce would tell their values, and let anyone forge more."""
    nonces = {RING.seal(b"", CONTEXT)[10:34] for _ in range(10_000)}
    assert len(nonces) == 10_000


def test_a_ciphertext_is_plain_bytes_as_long_as_documented() -> None:
    """It goes into a bytea column as it is, and tells nothing but key and length."""
    assert type(SEALED) is bytes
    assert SEALED.startswith(b"\x01\x01\x072026-11")
    assert len(SEALED) == 3 + len("2026-11") + 24 + len(VALUE) + 16
    assert VALUE not in SEALED


# What does not open


def test_every_bit_counts() -> None:
    """Nobody who can write to the database changes a value, its key or its format by a bit."""
    for index, bit in itertools.product(range(len(SEALED)), range(8)):
        refusal(SEALED[:index] + bytes([SEALED[index] ^ 1 << bit]) + SEALED[index + 1 :])


def test_nothing_is_cut_off_or_put_on() -> None:
    """A ciphertext cut at any length is refused, the empty one included, and so is a longer one."""
    for length in range(len(SEALED)):
        refusal(SEALED[:length])
        refusal(SEALED[length + 1 :])
    for ciphertext in (SEALED + b"\x00", b"\x00" + SEALED, SEALED + SEALED):
        refusal(ciphertext)


@pytest.mark.parametrize("part", range(3))
@pytest.mark.parametrize("change", [str.upper, lambda text: text + " ", lambda text: text[:-1], lambda _: "other"])
def test_another_place(part: int, change: Callable[[str], str]) -> None:
    """A ciphertext that is copied to another table, column or row does not open there."""
    table, column, row = (change(name) if at == part else name for at, name in enumerate(PLACE))
    if (table, column, row) != PLACE:
        assert (
            refusal(SEALED, Context(table, column, row))
            == "it is damaged, or of another place, or another key had this id"
        )


def test_places_that_read_alike() -> None:
    """No two places are one: not by where a part ends, in which order they stand, or how a letter is composed."""
    alike = [
        ("ab", "c", "d"), ("a", "bc", "d"), ("a", "b", "cd"), ("abc", "d", "x"), ("b", "ab", "c"), ("c", "ab", "d"),
        ("a\x00", "b", "c"), ("a", "\x00b", "c"), ("a", "b\x00\x01c", "d"), ("a", "b", "\x00\x01c"),
        ("\u00e9", "c", "d"), ("e\u0301", "c", "d"), ("a", "b", "c" * 256), ("a", "b", "c" * 257),
    ]  # fmt: skip
    assert len({Context(*place).encoded() for place in alike}) == len(alike)
    for one, other in itertools.permutations(alike, 2):
        refusal(RING.seal(VALUE, Context(*one)), Context(*other))


@FIXED
@given(places, places)
def test_no_two_places_are_encoded_alike(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    """Whatever tables, columns and ids there will be."""
    assert (one == other) == (Context(*one).encoded() == Context(*other).encoded())


@pytest.mark.parametrize(
    "place", [("", "c", "r"), ("t", "", "r"), ("t", "c", ""), ("t", "c", "r" * 65_536), ("t", "c", "\u00e9" * 32_768)]
)
def test_a_place_without_a_name_or_with_too_long_a_one(place: tuple[str, str, str]) -> None:
    """A caller who forgot the row learns it at once: all rows would share one place."""
    with pytest.raises(ValueError, match="1 to 65,535 bytes"):
        Context(*place)
    with pytest.raises(UnicodeEncodeError):
        Context("t", "c", "\ud800")
    assert len(Context("t", "c", "r" * 65_535).encoded()) == 65_535 + 8


@pytest.mark.parametrize(
    ("ring", "why"),
    [
        (ring_of(entry("2026-11", OTHER_KEY, "primary")), "another key had this id"),
        (ring_of(entry("2026-12", KEY, "primary")), "the key is missing in the ring"),
        (ring_of(entry("2026-11", KEY, "retired"), entry("b", OTHER_KEY, "primary")), "the key is retired"),
    ],
)
def test_another_key_a_missing_one_and_a_retired_one(ring: KeyRing, why: str) -> None:
    """The caller is told the same each time; the operator learns from the log which key it takes."""
    assert why in refusal(SEALED, ring=ring)
    with logged() as lines, pytest.raises(VaultError):
        ring.open(SEALED, CONTEXT)
    line = json.loads(lines.getvalue())
    assert (line["keyId"], line["table"], line["column"]) == ("2026-11", "user_secrets", "value")
    assert PLACE[2] not in lines.getvalue(), "a row's key may be a person's name"


def test_the_key_id_is_sealed_too() -> None:
    """Rows are counted by key id before a key is retired: nobody moves a row to another count, even under one key."""
    renamed = SEALED.replace(b"\x072026-11", b"\x03old")
    assert "damaged" in refusal(renamed, ring=ring_of(entry("old", KEY, "primary")))


@pytest.mark.parametrize("start", [b"\x00\x01", b"\x03\x01", b"\x02\x02", b"\x01\x00", b"\x01\x02", b"{}", b"\x01"])
def test_formats_and_algorithms_to_come(start: bytes) -> None:
    """What a later version has sealed is refused by this one, and never taken for something else."""
    assert refusal(start + SEALED[2:]) == "it is no ciphertext of a format that this version knows"


@pytest.mark.parametrize("key_id", [b"", b"-a", b"A", b"a b", b"a\n", b"\xc3\xa9", b"a" * 33, b"a\x00"])
def test_key_ids_of_another_form(key_id: bytes) -> None:
    """An id goes into logs and indexes: only what a ring can hold is taken for one."""
    ciphertext = b"\x01\x01" + bytes([len(key_id)]) + key_id + bytes(60)
    refusal(ciphertext)
    with pytest.raises(VaultError):
        key_id_of(ciphertext)


@FIXED
@given(st.binary(max_size=100) | st.binary(max_size=100).map(lambda rest: b"\x01\x01\x072026-11" + rest))
def test_anything_else_is_refused(ciphertext: bytes) -> None:
    """There is one error for all of it, and never another one."""
    refusal(ciphertext)


def test_the_key_id_without_the_key() -> None:
    """Rotation finds what is left to do, by the first bytes alone."""
    assert key_id_of(SEALED) == "2026-11"
    assert key_id_of(SEALED[:-1]) == "2026-11", "it is read, not verified"
    with pytest.raises(VaultError):
        key_id_of(SEALED[:49])


def test_the_primary_key_seals_and_active_keys_open() -> None:
    """Promoting a key changes what is sealed from now on, and nothing that was sealed before."""
    promoted = ring_of(entry("old", OTHER_KEY, "primary"), entry("2026-11", KEY, "active"))
    assert key_id_of(promoted.seal(VALUE, CONTEXT)) == "old"
    assert promoted.open(SEALED, CONTEXT) == VALUE
    assert RING.open(promoted.seal(VALUE, CONTEXT), CONTEXT) == VALUE


def test_the_seeds_names() -> None:
    """Code that was written to `vault.py` finds its two functions."""
    ciphertext = vault.encrypt_vault(VALUE, RING, vault.Context(*PLACE))
    assert vault.decrypt_vault(ciphertext, RING, vault.Context(*PLACE)) == VALUE
    with pytest.raises(vault.VaultError):
        vault.decrypt_vault(ciphertext, RING, vault.Context("t", "c", "r"))


# Silence


@dataclasses.dataclass(frozen=True)
class Holder:
    """A record of somebody's code that holds a secret."""

    name: str
    secret: SecretValue


class Model(BaseModel):
    """A Pydantic model that does."""

    secret: SecretValue


def assert_silent(text: str) -> None:
    """Neither the value nor a key, in any of their spellings."""
    for secret in (VALUE, KEY, OTHER_KEY):
        for spelling in (secret.decode(), repr(secret)[2:-1], base64.b64encode(secret).decode(), secret.hex()):
            assert spelling not in text
    assert "canary" not in text


SECRET = SecretValue(VALUE)


@pytest.mark.parametrize(
    "shown",
    [repr, str, "{}".format, "{0!r:>40}".format, lambda it: f"{it}", pprint.pformat, ascii,
     lambda it: f"{it!s} {it!r}", lambda it: str([it, {"a": it}]), lambda it: repr(Holder("a", it)),
     lambda it: str(dataclasses.asdict(Holder("a", it))), lambda it: repr(Model(secret=it)),
     lambda it: str(Model(secret=it).model_dump()), lambda it: Model(secret=it).model_dump_json(),
     lambda it: json.dumps({"a": it}, default=str), lambda it: repr(copy.copy(it)),
     lambda it: repr(copy.deepcopy(Holder("a", it))), lambda it: repr(Model(secret=it).model_copy(deep=True))],
)  # fmt: skip
def test_a_secret_value_does_not_print(shown: Callable[[object], str]) -> None:
    """However somebody prints it, alone or inside something, asterisks come out."""
    assert_silent(shown(SECRET))
    assert "***" in shown(SECRET)


def test_a_secret_value_does_not_get_into_the_log() -> None:
    """As message, argument or member of a line."""
    with logged() as lines:
        log = logging.getLogger("ai_admin.vault.test")
        log.debug(SECRET)
        log.debug("%s %r", SECRET, Holder("a", SECRET), extra={"fields": {"secret": SECRET, "ring": RING}})
    assert len(lines.getvalue().splitlines()) == 2
    assert_silent(lines.getvalue())


@pytest.mark.parametrize("held", [SECRET, Holder("a", SECRET), Model(secret=SECRET), RING, RING.primary])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_secret_value_is_not_pickled(held: object, protocol: int) -> None:
    """A cache, a queue or another process would get it in the clear."""
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dump(held, io.BytesIO(), protocol)


def test_a_secret_value_gives_its_bytes_when_asked() -> None:
    """What cannot be read cannot be used."""
    assert SECRET.get_secret_value() == VALUE
    assert copy.deepcopy(SECRET) == SECRET == SecretValue(VALUE) != SecretValue(KEY)
    assert Model(secret=SECRET).secret.get_secret_value() == VALUE


@pytest.mark.parametrize(
    "shown",
    [repr, str, pprint.pformat, lambda ring: ring.model_dump_json(), lambda ring: str(ring.model_dump()),
     lambda ring: repr(ring.primary.key)],
)  # fmt: skip
def test_a_ring_does_not_print_its_keys(shown: Callable[[Any], str]) -> None:
    """A ring shows its ids and states, and asterisks."""
    assert_silent(shown(RING))


@pytest.mark.parametrize(
    "ciphertext",
    [b"", SEALED[:-1], SEALED[:40], SEALED.replace(b"\x072026-11", b"\x03old"), SEALED.replace(b"2026-11", b"2026-12")],
    ids=["empty", "damaged", "cut", "another key's", "a missing key's"],  # the bytes differ from run to run
)
def test_a_failure_shows_neither_key_nor_value(ciphertext: bytes) -> None:
    """Not in the log, nor in a crash report that prints the variables of each frame."""
    with logged() as lines, pytest.raises(VaultError) as caught:
        RING.open(ciphertext, CONTEXT)
    assert_silent(lines.getvalue())
    # The first frame is this test's.
    ours = traceback.TracebackException(VaultError, caught.value, caught.tb.tb_next, capture_locals=True)
    report = "".join(ours.format())
    assert "ciphertext = " in report
    assert_silent(report)
    record = logging.LogRecord("a", logging.ERROR, "", 0, "failed", (), (VaultError, caught.value, caught.tb))
    assert_silent(JsonLines().format(record))
