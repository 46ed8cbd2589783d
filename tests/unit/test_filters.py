"""Filters: conditions in SQL whose values all travel as parameters."""

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from ai_admin.filters import Conditions

# The same examples in each run, and no limit of time on a busy machine.
FIXED = settings(derandomize=True, deadline=None)

NASTY = "'; DROP TABLE users; -- %(v0)s %s {value} {0} \\ \" \u0000"
texts = st.text(st.characters(exclude_categories=["Cs"]))


def read(conditions: Conditions) -> tuple[list[str], dict[str, object]]:
    """The SQL and the values; JSON as what it holds."""
    values = {name: value.obj if isinstance(value, Jsonb) else value for name, value in conditions.values.items()}
    return [item.sql for item in conditions.items], values


def test_nothing_asked_is_no_condition() -> None:
    """An empty filter is no filter, and not one that everybody fails."""
    conditions = Conditions()
    conditions.any_of("tag", None)
    conditions.any_of("tag", [])
    conditions.prefix("tag", None)
    conditions.compare("created_at", ">=", None)
    conditions.members("attributes", [])
    conditions.words("words", None)
    assert read(conditions) == ([], {})


def test_values_never_stand_in_the_sql() -> None:
    """Whatever a caller sends is a value: the SQL is the same for every text."""

    def build(text: str) -> Conditions:
        conditions = Conditions()
        conditions.any_of("tag", [text, text], pinpoint=True)
        conditions.compare("created_at", "<", text)
        conditions.members("attributes", [(text, text)])
        conditions.prefix("name_key", text)
        return conditions

    sql, values = read(build(NASTY))
    assert sql == read(build("harmless"))[0]
    assert list(values.values())[:3] == [[NASTY, NASTY], NASTY, {NASTY: NASTY}]
    assert sql[:3] == ["tag = ANY(%(v0)s)", "created_at < %(v1)s", "(attributes @> %(v2)s)"]


def test_names_of_values_are_distinct() -> None:
    """Two conditions never share a value."""
    conditions = Conditions()
    for number in range(5):
        conditions.compare("created_at", ">", number)
    sql, values = read(conditions)
    assert [text.partition("%")[2] for text in sql] == [f"({name})s" for name in values]
    assert list(values.values()) == [0, 1, 2, 3, 4]


def test_only_what_is_said_to_pinpoint_does() -> None:
    """A list goes straight to the index of such a condition, so it must not be taken for one by mistake."""
    conditions = Conditions()
    conditions.any_of("tag", ["a"], pinpoint=True)
    conditions.any_of("kind", ["human"])
    assert [(item.column, item.pinpoint) for item in conditions.items] == [("tag", True), ("kind", False)]


@pytest.mark.parametrize(
    ("prefix", "end"),
    [
        ("a", "b"),
        ("az", "a{"),
        ("%", "&"),
        ("a_", "a`"),
        ("\ud7ff", "\ue000"),
        ("\uffff", "\U00010000"),
        ("a\U0010ffff", "b"),
        ("\U0010ffff", None),
    ],
)
def test_a_prefix_is_a_range(prefix: str, end: str | None) -> None:
    """The range ends right after the last text that begins so, also beside the surrogates and at the end of Unicode."""
    conditions = Conditions()
    conditions.prefix("tag", prefix)
    assert list(conditions.values.values()) == ([prefix] if end is None else [prefix, end])


@FIXED
@given(prefix=texts.filter(bool), rest=texts, other=texts)
def test_a_prefix_holds_what_begins_with_it_and_nothing_else(prefix: str, rest: str, other: str) -> None:
    """In the order of UTF-8, which is that of COLLATE "C"."""
    conditions = Conditions()
    conditions.prefix("tag", prefix)
    start, end = (str(value).encode() for value in [*conditions.values.values(), chr(sys.maxunicode) * 999][:2])
    assert start <= (prefix + rest).encode() < end
    assert (start <= other.encode() < end) is other.startswith(prefix)


@pytest.mark.parametrize(
    ("text", "readings"),
    [
        ("research", ["research"]),
        ("7", ["7", 7]),
        ("-7.50", ["-7.50", -7.5]),
        ("true", ["true", True]),
        ("null", ["null", None]),
        ("True", ["True"]),
        ("", [""]),
        ("07", ["07"]),
        (" 7", [" 7", 7]),
        ('"7"', ['"7"']),
        ("[7]", ["[7]"]),
        ('{"a": 7}', ['{"a": 7}']),
        ("NaN", ["NaN"]),
        ("Infinity", ["Infinity"]),
    ],
)
def test_what_a_text_may_mean_in_json(text: str, readings: list[object]) -> None:
    """A query has texts alone: the string is always meant, and a number, boolean or null where it is one."""
    conditions = Conditions()
    conditions.members("attributes", [("a", text)])
    found = list(read(conditions)[1].values())
    assert found == [{"a": value} for value in readings]
    # True equals 1 in Python.
    assert [type(value["a"]) for value in found if isinstance(value, dict)] == [type(value) for value in readings]


def test_words_are_quoted_beginnings() -> None:
    """Each word is asked for as a beginning; operators of a tsquery are no words."""
    conditions = Conditions()
    conditions.words("words", "Ada & !Love:* | O'Brien <-> (x)")
    assert read(conditions) == (
        [f"words @@ %(v{index})s::tsquery" for index in range(5)],
        {f"v{index}": f"'{word}':*" for index, word in enumerate(["ada", "brien", "love", "o", "x"])},
    )


def test_a_prefix_that_folds_to_nothing_finds_nobody() -> None:
    """The same mistake by another way: `name[prefix]` with nothing but an accent."""
    conditions = Conditions()
    conditions.prefix("name_key", "")
    assert [item.sql for item in conditions.items] == ["FALSE"]


@pytest.mark.parametrize("text", ["", " ", "!", "😀", "'"])
def test_a_search_without_words_finds_nobody(text: str) -> None:
    """litellm's and open-webui's SCIM returned everyone for a filter they could not use."""
    conditions = Conditions()
    conditions.words("words", text)
    assert [item.sql for item in conditions.items] == ["FALSE"]
