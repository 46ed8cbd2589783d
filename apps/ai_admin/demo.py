"""Made-up users in any number, to try the service out and to measure it: people everywhere, and services."""

import random
import string
from bisect import bisect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta, timezone
from itertools import accumulate, islice
from typing import Any
from uuid import UUID

import orjson
import psycopg
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from ai_admin.config import Settings
from ai_admin.database import connection_arguments
from ai_admin.folding import fold, sort_key, words
from ai_admin.terminal import rate

SEED = 1815
# Users a transaction: what an interruption can lose, and few enough for the progress to move.
BATCH = 10_000
_PERIOD = timedelta(days=3 * 365)
# Names drawn for each language; pairs of them make the people.
_POOL = 300
_OWNERS = 3

# Weight of each language, and whether the family name comes first.
_LOCALES = {
    "en_US": (24, False),
    "de_DE": (9, False),
    "fr_FR": (8, False),
    "es_MX": (8, False),
    "pt_BR": (7, False),
    "vi_VN": (7, True),
    "zh_CN": (6, True),
    "ja_JP": (5, True),
    "ko_KR": (4, True),
    "hi_IN": (5, False),
    "ru_RU": (4, False),
    "ar_SA": (3, False),
    "tr_TR": (3, False),
    "pl_PL": (3, False),
    "el_GR": (2, False),
    "he_IL": (1, False),
    "th_TH": (1, False),
}
# Tags and addresses are ASCII. Two alphabets are spelt out; Faker romanises Chinese and Japanese; people who
# write in the other scripts get a handle from this language's pool.
_HANDLES_OF_OTHERS = "en_US"
_LETTERS_TO_SPELL = "абвгдежзийклмнопрстуфхцчшщыэюя αβγδεζηθικλμνξοπρσςτυφχψω"
_SPELT = """
a b v g d e zh z i i k l m n o p r s t u f kh ts ch sh shch y e yu ya
a v g d e z i th i k l m n x o p r s s t y f ch ps o
"""
_SPELLING = str.maketrans(dict(zip(_LETTERS_TO_SPELL.replace(" ", ""), _SPELT.split(), strict=True)))
_LETTERS = frozenset(string.ascii_lowercase)

# Shares of a thousand.
_STATUSES = {"active": 940, "suspended": 40, "deleted": 20}
_ROLES = {"member": 995, "admin": 4, "auditor": 1}
_SHARE_OF_SERVICES = 0.08
_SHARE_OF_SERVICES_WITH_EMAIL = 0.3
_SHARE_OF_CONTRACTORS = 0.12
_SHARE_UNCHANGED = 0.6
_DOMAINS = {
    "example.com": 60,
    "example.org": 15,
    "research.example.com": 10,
    "example.net": 8,
    "partners.example.net": 5,
    "labs.example.org": 2,
}
_MODELS: dict[tuple[str, ...], int] = {
    ("gpt-5*", "claude-*"): 30,
    ("gpt-5-mini",): 20,
    ("claude-sonnet-*",): 12,
    ("*",): 4,
    ("llama-*", "mistral-*", "qwen*"): 10,
    ("gemini-*", "gpt-5*"): 9,
    ("text-embedding-*",): 5,
    (): 10,
}
_TEAMS = {
    team: weight
    for weight, teams in (
        (40, ("platform", "support", "sales", "engineering", "operations")),
        (15, ("research", "finance", "marketing", "legal", "design", "security", "data", "people")),
        (2, ("ethics", "translation", "robotics", "archive", "speech", "vision", "safety")),
    )
    for team in teams
}
_SITES = (
    "Berlin", "Hà Nội", "Lyon", "Nairobi", "Osaka", "Porto", "Pune", "Seoul", "São Paulo", "Toronto",
    "Zürich",
)  # fmt: skip
_SERVICE_TASKS = (
    "nightly evaluation", "invoice extraction", "ticket triage", "code review", "document search",
    "translation", "speech transcription", "contract summary", "build pipeline", "chat widget",
    "embedding refresh", "fraud check", "catalogue tagging", "meeting notes", "log analysis",
    "image captions", "data labelling", "mail routing",
)  # fmt: skip
_SERVICE_KINDS = ("agent", "batch", "bot", "gateway", "runner", "worker")

_COLUMNS = (
    "id", "tag", "email", "name", "name_key", "kind", "role", "status", "models", "attributes", "words",
    "created_at", "updated_at", "deleted_at", "version",
)  # fmt: skip
_COUNT = "SELECT count(*) FROM users"
# Numbers at the end of tags and of addresses' local parts, where the made-up ones have theirs.
_LAST_NUMBER = r"""
SELECT GREATEST(
    max(substring(tag FROM '[.-]([0-9]{1,9})$')::int),
    max(substring(email FROM '[.-]([0-9]{1,9})@')::int),
    0
)
FROM users
"""


def fill(settings: Settings, target: int, console: Console, seed: int = SEED) -> int:
    """Add made-up users until there are `target` users, deleted ones counted; returns how many were added.

    Each batch is a transaction: what an interruption leaves is whole, and the next call goes on from there.
    The users are the same for the same seed, day, and users that are already there.
    """
    # Not the pool's connection: its timeouts are for requests.
    with psycopg.connect(**connection_arguments(settings.secret), autocommit=True) as connection:
        present = _number(connection, _COUNT)
        missing = target - present
        if missing <= 0:
            console.print(f"[bold]==>[/] The directory has {present:,} users already")
            return 0
        users = _users(seed, present, target, _number(connection, _LAST_NUMBER))
        with _progress(console) as progress:
            task = progress.add_task("Making users", total=missing)
            while not progress.finished:
                progress.advance(task, _copy(connection, islice(users, BATCH)))
        # Statistics for the planner, and the visibility map for scans of an index alone.
        connection.execute("VACUUM (ANALYZE) users")
    return missing


def _number(connection: psycopg.Connection, query: str) -> int:
    row = connection.execute(query).fetchone()
    assert row is not None, "an aggregate always has a row"
    return int(row[0])


class _Rate(ProgressColumn):
    """Users a second."""

    def render(self, task: Task) -> Text:
        return Text(rate(task.speed))


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("[bold]==>[/] {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        console=console,
    )


def _copy(connection: psycopg.Connection, users: Iterable[tuple[Any, ...]]) -> int:
    """Write the users in one transaction; they are made while the server writes those before."""
    cursor = connection.cursor()
    with connection.transaction(), cursor.copy(f"COPY users ({', '.join(_COLUMNS)}) FROM STDIN") as copy:
        for user in users:
            copy.write_row(user)
    return cursor.rowcount


@dataclass(frozen=True)
class _Part:
    """A first or last name as it is written, and in the letters of a handle."""

    written: str
    handle: str


@dataclass(frozen=True, eq=False)
class _Language:
    """The names of one language."""

    firsts: Sequence[_Part]
    lasts: Sequence[_Part]
    family_first: bool


class _Choice:
    """A weighted choice that is prepared once: `random.choices` adds up its weights at every call."""

    def __init__(self, weights: Mapping[Any, int]) -> None:
        self._options = list(weights)
        self._bounds = list(accumulate(weights.values()))

    def __call__(self, rng: random.Random) -> Any:
        return self._options[bisect(self._bounds, rng.random() * self._bounds[-1])]


def _handle(text: str) -> str:
    """Spell a name in ASCII letters; empty where its script is not known here."""
    return "".join(letter for letter in fold(text).translate(_SPELLING) if letter in _LETTERS)


def _pool(faker: Any, kind: str) -> list[str]:
    return [getattr(faker, kind)() for _ in range(_POOL)]


def _language(locale: str, family_first: bool, seed: int, others: Sequence[Sequence[str]]) -> _Language:
    """Draw the names of a locale; `others` are first and last handles for a script that is not spelt out."""
    from faker import Faker  # noqa: PLC0415  installed for local use alone

    faker = Faker(locale)
    faker.seed_instance(seed)
    firsts, lasts = (
        _parts(_pool(faker, f"{kind}_name"), _romanized(faker, kind) or handles)
        for kind, handles in zip(("first", "last"), others, strict=True)
    )
    return _Language(firsts, lasts, family_first)


def _romanized(faker: Any, kind: str) -> list[str] | None:
    provider = f"{kind}_romanized_name"
    return _pool(faker, provider) if hasattr(faker, provider) else None


def _parts(names: Sequence[str], handles: Sequence[str]) -> list[_Part]:
    return [_Part(name, _handle(name) or _handle(handle)) for name, handle in zip(names, handles, strict=True)]


def _languages(seed: int) -> dict[_Language, int]:
    english = _language(_HANDLES_OF_OTHERS, False, seed, ([""] * _POOL, [""] * _POOL))
    others = ([part.handle for part in english.firsts], [part.handle for part in english.lasts])
    return {
        _language(locale, family_first, seed, others): weight for locale, (weight, family_first) in _LOCALES.items()
    }


def _users(seed: int, present: int, target: int, last_number: int) -> Iterator[tuple[Any, ...]]:
    """Rows for `_COLUMNS`; the later ones are the younger ones, as in a directory that has grown."""
    make = _Maker(seed + present, _languages(seed))
    until = datetime.combine(datetime.now(timezone.utc), time(), timezone.utc)
    for index in range(present, target):
        age = _PERIOD * (1 - (index + make.rng.random()) / target)
        yield make.user(index, last_number + 1 + index - present, until - age, until)


class _Maker:
    """Makes one user after the other from one source of chance."""

    def __init__(self, seed: int, languages: Mapping[_Language, int]) -> None:
        self.rng = random.Random(seed)  # noqa: S311  nothing here is secret
        self._language = _Choice(languages)
        self._status = _Choice(_STATUSES)
        self._role = _Choice(_ROLES)
        self._domain = _Choice(_DOMAINS)
        self._models = _Choice(_MODELS)
        self._team = _Choice(_TEAMS)

    def user(self, index: int, number: int, created: datetime, until: datetime) -> tuple[Any, ...]:
        """Make the row of the user at `index` of the directory, whose tag and address end in `number`."""
        rng = self.rng
        is_service = index >= _OWNERS and rng.random() < _SHARE_OF_SERVICES
        tag, email, name = self._service(number) if is_service else self._person(number)
        status = self._status(rng)
        changes = 1 + int(rng.expovariate(0.5))
        if status == "active" and rng.random() < _SHARE_UNCHANGED:
            changes = 0
        updated = created + (until - created) * rng.random() if changes else created
        return (
            _uuid7(created, rng),
            tag,
            email,
            name,
            sort_key(name),
            "service" if is_service else "human",
            "owner" if index < _OWNERS else self._role(rng),
            status,
            list(self._models(rng)),
            orjson.dumps(self._attributes(number, is_service)).decode(),
            # The text form of a tsvector; words are letters and digits, so there is nothing to escape.
            " ".join(f"'{word}'" for word in words(tag, email, name)),
            created,
            updated,
            updated if status == "deleted" else None,
            1 + changes,
        )

    def _person(self, number: int) -> tuple[str, str | None, str]:
        language = self._language(self.rng)
        first, last = self.rng.choice(language.firsts), self.rng.choice(language.lasts)
        tag = f"{first.handle}.{last.handle}"[:50] + f".{number}"
        written = (last.written, first.written) if language.family_first else (first.written, last.written)
        return tag, f"{tag}@{self._domain(self.rng)}", " ".join(written)

    def _service(self, number: int) -> tuple[str, str | None, str]:
        rng = self.rng
        name = f"{rng.choice(_SERVICE_TASKS)} {rng.choice(_SERVICE_KINDS)}".capitalize()
        tag = f"{name.lower().replace(' ', '-')}-{number}"
        has_email = rng.random() < _SHARE_OF_SERVICES_WITH_EMAIL
        return tag, f"{tag}@{self._domain(rng)}" if has_email else None, name

    def _attributes(self, number: int, is_service: bool) -> dict[str, Any]:
        rng = self.rng
        facts = {"team": self._team(rng), "costCentre": rng.randrange(4000, 5000)}
        if is_service:
            return {**facts, "environment": rng.choice(("production", "staging"))}
        if rng.random() < _SHARE_OF_CONTRACTORS:
            facts["contractor"] = True
        return {**facts, "site": rng.choice(_SITES), "employee": number}


def _uuid7(at: datetime, rng: random.Random) -> UUID:
    """Make the UUIDv7 of this time (RFC 9562, 5.7): milliseconds, version, random, variant, random."""
    milliseconds = int(at.timestamp() * 1000)
    version_and_random = 0x7 << 12 | rng.getrandbits(12)
    variant_and_random = 0b10 << 62 | rng.getrandbits(62)
    return UUID(int=milliseconds << 80 | version_and_random << 64 | variant_and_random)
