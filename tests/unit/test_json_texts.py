"""JSON texts that others write: a member that occurs twice is found, whatever its name, its place and its spelling."""

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from typer.testing import CliRunner

from ai_admin.cli import app
from ai_admin.config import ConfigError
from ai_admin.deploy.profiles import LOCAL, read_profile
from ai_admin.json_values import RepeatedMember, loads, require_distinct
from ai_admin.vault.keyring import KeyRing, KeyRingInvalid
from tests.keyrings import entry, text_of

NAMES = st.sampled_from(["a", "b", "a:b", ":", "", '"', "\\", "\u00e9", "\n", "role"]) | st.text(max_size=3)


class Pairs(list[tuple[str, Any]]):
    """The members of an object, in the order in which they are written."""


def values(depth: int = 3) -> st.SearchStrategy[Any]:
    """JSON values, with objects as pairs in which a name may stand twice."""
    plain = st.none() | st.booleans() | st.integers(-(10**25), 10**25) | st.floats(allow_nan=False) | NAMES
    if not depth:
        return plain
    inner = values(depth - 1)
    return plain | st.lists(inner, max_size=3) | st.lists(st.tuples(NAMES, inner), max_size=3).map(Pairs)


@st.composite
def texts(draw: st.DrawFn) -> str:
    """A JSON text of such a value, each string written in one of the ways that JSON has."""

    def written(value: Any) -> str:
        if isinstance(value, Pairs):
            return "{" + ",".join(f"{written(name)} : {written(member)}" for name, member in value) + "}"
        if isinstance(value, list):
            return "[" + ", ".join(map(written, value)) + "]"
        if isinstance(value, str):
            way = draw(st.sampled_from(["plain", "ascii", "escaped"]))
            if way == "escaped" and all(ord(letter) < 0x10000 for letter in value):
                form = draw(st.sampled_from(["\\u%04x", "\\u%04X"]))
                return '"' + "".join(form % ord(letter) for letter in value) + '"'
            return json.dumps(value, ensure_ascii=way == "ascii")
        return json.dumps(value)

    return written(draw(values()))


def has_repeated(text: str) -> bool:
    """Whether the standard library's parser sees a name twice in an object."""
    found = []

    def look(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found.append(len(dict(pairs)) != len(pairs))
        return dict(pairs)

    json.loads(text, object_pairs_hook=look)
    return any(found)


@given(texts())
def test_require_distinct_any_text_agrees_with_reading_each_member(text: str) -> None:
    """The fast check counts colons: it must find each repetition, and none where there is none."""
    try:
        require_distinct(text)
        found = False
    except RepeatedMember as error:
        found = True
        value: Any = json.loads(text, object_pairs_hook=Pairs)
        for step in error.place[:-1]:
            value = value[step] if isinstance(step, int) else dict(reversed(value)).get(step, dict(value)[step])
    assert found == has_repeated(text)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('{"role": "member", "role": "owner"}', ("role",)),
        (r'{"role": "member", "r\u006fle": "owner"}', ("role",)),
        (r'{"a": "\u003a", "a": ":"}', ("a",)),
        ('{"a": [1, {"b": {"": 1, "": 2}}]}', ("a", 1, "b", "")),
        ("[" * 150 + '{"x":1,"x":1}' + "]" * 150, (*[0] * 150, "x")),
    ],
)
def test_loads_repeated_member_is_named_with_its_place(text: str, place: tuple[str | int, ...]) -> None:
    """An administrator who is told of a repetition must be able to find it."""
    with pytest.raises(RepeatedMember) as caught:
        loads(text)
    assert caught.value.place == place


def test_loads_wide_text_that_nests_deep_takes_little_memory() -> None:
    """A cell of 128 KiB took 100 MB: each of its values had a copy of the way to it."""
    text = '{"\\u003a":' + "[" * 190 + ",".join(["1"] * 32_000) + "]" * 190 + "}"
    tracemalloc.start()
    try:
        loads(text)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("text", ["", "{", "[" * 5000, '"\\ud800"', "\ud800", "9" * 5000, '{"a": secret}', "NaN,"])
def test_loads_no_json_is_value_error_without_values(text: str) -> None:
    """A parser's error may hold the text, and the text a secret."""
    with pytest.raises(ValueError, match=r".") as caught:
        loads(text)
    assert "secret" not in str(caught.value)


def _ring() -> None:
    text = text_of(entry("a", b"k" * 32, "retired"), entry("b", b"x" * 32, "primary"))
    KeyRing.parse(SecretStr(text.replace('"state": "retired"', '"state": "primary", "state": "active"')))


@pytest.mark.parametrize(("read", "told"), [(_ring, r"keys\[0\]\.state occurs twice; leave one")])
def test_key_ring_with_repeated_member_is_refused(read: Callable[[], None], told: str) -> None:
    """Two tools would seal under different keys."""
    with pytest.raises(KeyRingInvalid, match=told):
        read()


def test_profile_with_repeated_member_is_refused(tmp_path: Path) -> None:
    """A deployment would run with the last value, where the reader saw the first."""
    profile = tmp_path / "local-deployment.json"
    text = LOCAL.read_text()
    assert text.lstrip().startswith("{")
    profile.write_text('{"stage": "production",' + text.lstrip()[1:])
    with pytest.raises(ConfigError, match="stage occurs twice; leave one"):
        read_profile(profile)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--attribute", 'team={"a": 1, "a": 2}'], "'a' occurs twice"),
        (["--attribute", "team=1", "--attribute", "team=2"], "--attribute team: give it once"),
    ],
)
@pytest.mark.parametrize("command", ["create", "update"])
def test_attribute_option_given_twice_is_refused(command: str, options: list[str], told: str) -> None:
    """The last one won in silence."""
    result = CliRunner().invoke(app, ["users", command, "ada", *options])
    assert result.exit_code == 2
    assert told in result.output
