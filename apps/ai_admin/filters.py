"""Conditions of a list: from an allow-list of columns to SQL, a list of conditions and a dict of values.

Every value travels as a parameter. The only SQL that is put together comes from constants in this package.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import orjson
from psycopg.types.json import Jsonb

from ai_admin.folding import words


@dataclass(frozen=True)
class Condition:
    """One condition, on one column."""

    column: str
    sql: str
    # At most a handful of rows fulfil it, whatever the value: its index is always the way to them.
    pinpoint: bool = False


@dataclass
class Conditions:
    """Conditions that are joined by AND, and the values they name."""

    items: list[Condition] = field(default_factory=list)
    # What every row that fulfils the others fulfils anyway: of use to a walk, which may begin further along.
    implied: list[Condition] = field(default_factory=list)
    values: dict[str, object] = field(default_factory=dict)
    # What looking for a page has found out about them, so that the count beside it need not: which of them an index
    # is asked about, and about how many rows fulfil all.
    scarce: list[Condition] | None = None
    sampled: int | None = None

    def add(self, column: str, template: str, value: object, *, pinpoint: bool = False) -> None:
        """Add a condition; `{value}` in the template is where its value goes."""
        name = self.bind(value)
        self.items.append(Condition(column, template.format(value=f"%({name})s"), pinpoint))

    def bind(self, value: object) -> str:
        """Keep a value and return the name it has in the query."""
        name = f"v{len(self.values)}"
        self.values[name] = value
        return name

    def any_of(self, column: str, values: Sequence[object] | None, *, pinpoint: bool = False) -> None:
        """The column equals one of the values; no condition where there are none."""
        if values:
            self.add(column, f"{column} = ANY({{value}})", list(values), pinpoint=pinpoint)

    def prefix(self, column: str, prefix: str | None) -> None:
        """The column begins with the prefix, as a range: no pattern, so nothing needs escaping.

        A prefix that folding has left nothing of finds nothing.
        """
        if prefix is None:
            return
        if not prefix:
            self.nothing(column)
            return
        self.add(column, f"{column} >= {{value}}", prefix)
        end = _after(prefix)
        if end is not None:
            self.add(column, f"{column} < {{value}}", end)

    def nothing(self, column: str) -> None:
        """No row fulfils this: what was asked for has no letter to look for."""
        self.items.append(Condition(column, "FALSE", pinpoint=True))

    def compare(self, column: str, operator: str, value: object | None) -> None:
        """The column stands in this relation (`>=`, `>`, `<=`, `<`) to the value."""
        if value is not None:
            self.add(column, f"{column} {operator} {{value}}", value)

    def imply(self, column: str, operator: str, value: object | None) -> None:
        """As `compare`, where the other conditions imply it."""
        if value is not None:
            self.implied.append(Condition(column, f"{column} {operator} %({self.bind(value)})s"))

    def close_ranges(self) -> None:
        """Take up what is implied where it gives an open range its other end: so much less is to be read."""
        bounded = {item.column for item in self.items}
        self.items += [condition for condition in self.implied if condition.column in bounded]
        self.implied = [condition for condition in self.implied if condition.column not in bounded]

    def words(self, column: str, text: str | None) -> None:
        """The tsvector has, for each word of the text, a word that begins with it; a text without any finds nothing."""
        if text is None:
            return
        asked = words(text)
        # A condition each, so that a list can tell scarce words from frequent ones.
        for word in asked:
            self.add(column, f"{column} @@ {{value}}::tsquery", f"'{word}':*")
        if not asked:
            self.nothing(column)

    def members(self, column: str, members: Iterable[tuple[str, str]]) -> None:
        """The JSON object has each member with this value, as a string or as what the text says in JSON."""
        for key, text in members:
            alternatives = [f"{column} @> %({self.bind(Jsonb({key: value}))})s" for value in _readings(text)]
            self.items.append(Condition(column, f"({' OR '.join(alternatives)})"))


def _after(prefix: str) -> str | None:
    """The least text above every text that begins with the prefix, in code point order; None if there is none."""
    for index in range(len(prefix) - 1, -1, -1):
        code = ord(prefix[index])
        if code < sys.maxunicode:
            # The surrogates are no characters: after U+D7FF comes U+E000.
            following = 0xE000 if code == 0xD7FF else code + 1  # noqa: PLR2004
            return prefix[:index] + chr(following)
    return None


def _readings(text: str) -> list[object]:
    """The JSON values that a text in a query may mean: itself, and a number, a boolean or null."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return [text]
    return [text, value] if value is None or isinstance(value, bool | int | float) else [text]
