"""The list against a model: some three hundred varied users in plain Python, filtered, sorted and counted there."""

import itertools
import json
import random
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import httpx
import psycopg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ai_admin import listing, totals
from ai_admin.embedded import EmbeddedPostgres
from ai_admin.users import directory as users
from ai_admin.users import views
from ai_admin.users.schemas import UserOrder
from tests.conftest import OWNER_ID
from tests.mounts import mounted
from tests.serving import USERS, own_database

User = dict[str, Any]
Query = list[tuple[str, str]]

SORTS = tuple(sign + name for name in ("createdAt", "updatedAt", "tag", "email", "name") for sign in ("", "-"))
NAMES = (
    "Ada Lovelace", "ada lovelace", "ADA LOVELACE", "Adam Smith", "Ádám Kovács", "Zoë Brontë", "Zoe Bronte",
    "Nguyễn Văn An", "Nguyen Van An", "Jürgen Müller", "Jurgen Muller", "O'Brien, Conan", "Jean-Luc Picard",
    "Αλέξανδρος Παπαδόπουλος", "ΑΛΕΞΑΝΔΡΟΣ", "Анна Каренина", "анна каренина", "Ёлка Иванова", "李小龍", "李小龙",
    "李 小龙", "山田 太郎", "やまだ たろう", "김민수", "김민", "محمد علي", "דוד לוי", "अनिता देसाई", "สมชาย ใจดี",
    "ＦＵＬＬ ＷＩＤＴＨ", "full width", "Straße Weiß", "STRASSE WEISS", "100% sure", "a_b c%d", "\\back\\slash",
    "😀 smile", "😀", "Eval bot 7", "Eval bot 70", "eval-bot_7", "x", "Xénia", "ﬁnance team",
    "finance team", "Ⅷ legion",
)  # fmt: skip
TEAMS: tuple[object, ...] = ("research", "7", 7, 7.5, True, False, None, "true", "null", "", "50%", ["7"], {"a": 7})
ATTRIBUTE_TEXTS = ("research", "7", "7.0", "7.5", "true", "false", "null", "", "50%", "Research", '["7"]', '"7"', "07")
NUMBER = 300


@dataclass(frozen=True)
class Directory:
    """The application over a filled database, and the same users as the model has them."""

    api: httpx.Client
    users: list[User]

    def page(self, query: Query) -> dict[str, Any]:
        """One answer of the list."""
        response = self.api.get(f"{USERS}?{urlencode(query)}")
        assert response.status_code == 200, (query, response.text)
        answer: dict[str, Any] = response.json()
        return answer

    def by_cursor(self, query: Query, size: int) -> list[User]:
        """All that a query finds, page after page, each as full as can be."""
        found: list[User] = []
        page = self.page([*query, ("size", str(size))])
        while True:
            found += page["data"]
            if page["nextCursor"] is None:
                return found
            assert len(page["data"]) == size, "a page that has a next one is full"
            page = self.page([*query, ("size", str(size)), ("cursor", page["nextCursor"])])

    def by_page(self, query: Query, size: int) -> list[User]:
        """All that a query finds, by the numbers of pages."""
        found: list[User] = []
        for number in itertools.count(1):
            page = self.page([*query, ("size", str(size)), ("page", str(number))])
            assert page["page"] == number
            found += page["data"]
            if page["nextCursor"] is None:
                return found
        raise AssertionError

    def expected(self, query: Query) -> list[User]:
        """What the model finds, in order."""
        chosen = [user for user in self.users if matches(user, query)]
        sort = dict(query).get("sort", "-createdAt")
        chosen.sort(key=lambda user: (order_key(user, sort.lstrip("-")), user["id"]), reverse=sort[0] == "-")
        return chosen


# The model


def plain(text: str) -> str:
    """Text without case and diacritics; written apart from `ai_admin.folding`, which is tested by itself."""
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return unicodedata.normalize("NFKC", "".join(c for c in decomposed if not unicodedata.combining(c)))


def runs(*texts: str | None) -> list[str]:
    """The words of texts: runs of letters and digits."""
    return [
        "".join(run) for text in texts for is_word, run in itertools.groupby(plain(text or ""), str.isalnum) if is_word
    ]


def order_key(user: User, member: str) -> object:
    """What a list is sorted by; no email comes first, and times are compared as times."""
    if member == "email":
        return (user["email"] or "").lower()
    if member in {"createdAt", "updatedAt"}:
        return moment(user[member])
    return plain(user["name"]) if member == "name" else user[member]


def moment(text: str) -> datetime:
    """A time as the API writes it."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def matches(user: User, query: Query) -> bool:
    """Whether the user fulfils every filter of a query; equal names are "any of"."""
    chosen = {"status": ["active", "suspended"]}
    for name in ("id", "tag", "email", "name", "kind", "role", "status"):
        values = [value for asked, value in query if asked == name]
        if values:
            chosen[name] = values
    either = all(is_any_of(user, name, values) for name, values in chosen.items())
    return either and all(fulfils(user, name, value) for name, value in query if name not in chosen)


def is_any_of(user: User, name: str, values: list[str]) -> bool:
    """Whether a member equals one of the values; case makes no difference to tags and addresses."""
    if name in {"tag", "email", "id"}:
        return (user[name] or "").lower() in [value.lower() for value in values]
    return user[name] in values


def fulfils(user: User, name: str, value: str) -> bool:
    """Whether the user fulfils one condition."""
    member, _, operator = name.rstrip("]").partition("[")
    if member in {"createdAt", "updatedAt"}:
        one, other = moment(user[member]), moment(value)
        return {"gte": one >= other, "gt": one > other, "lte": one <= other, "lt": one < other}[operator]
    if member == "attributes":
        return operator in user["attributes"] and same_json(user["attributes"][operator], value)
    if operator == "prefix":
        text = plain(user["name"]) if member == "name" else (user[member] or "").lower()
        return text.startswith(plain(value) if member == "name" else value.lower())
    if member == "q":
        asked, had = runs(value), runs(user["tag"], user["email"], user["name"])
        return bool(asked) and all(any(word.startswith(beginning) for word in had) for beginning in asked)
    return True


def same_json(value: object, text: str) -> bool:
    """Whether a text in a query means this JSON value: as a string, or as a number, boolean or null."""
    if value == text:
        return True
    try:
        meant = json.loads(text)
    except ValueError:
        return False
    numbers = isinstance(value, int | float) and isinstance(meant, int | float)
    alike = numbers and isinstance(value, bool) == isinstance(meant, bool)
    return (alike and value == meant) or (value is None and meant is None)


# The users


def made_up(number: int, chance: random.Random) -> dict[str, Any]:
    """One user's body: names repeat, tags share beginnings, services have no email, every fourth at most."""
    service = chance.random() < 0.3
    tag = chance.choice(("ada", "adam", "bot", "b_t", "bo-t", "x", "eval.run", "zz")) + chance.choice("._-")
    body: dict[str, Any] = {
        "tag": f"{tag}{number}",
        "name": chance.choice(NAMES),
        "kind": "service" if service else "human",
        "role": chance.choices(("member", "auditor", "admin", "owner"), (12, 4, 2, 1))[0],
        "status": chance.choices(("active", "suspended"), (5, 1))[0],
        "attributes": {} if chance.random() < 0.3 else {"team": chance.choice(TEAMS), "cost centre": number % 5},
    }
    if not service or chance.random() < 0.25:
        local = chance.choice(("ada", "Ada", "a_b", "a%b", "BOT", "x'y"))
        body["email"] = f"{local}{number}@{chance.choice(('example.com', 'Example.ORG', 'sub.example.net'))}"
    return body


@pytest.fixture(scope="module")
def directory(
    postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Iterator[Directory]:
    """Three hundred users, made once: some deleted, some changed, many created in the same microsecond."""
    chance = random.Random(2)
    with (
        own_database(postgres, tmp_path_factory.mktemp("listing"), LOG_LEVEL="WARNING") as settings,
        mounted(settings, pytestconfig) as api,
        postgres.connect(settings.secret.pg_database) as sql,
    ):
        paths = []
        for number in range(NUMBER):
            response = api.post(USERS, json=made_up(number, chance))
            assert response.status_code == 201, response.text
            paths.append(response.headers["Location"])
        for path in chance.sample(paths, 30):
            assert api.delete(path).status_code == 204
        # As an import leaves them: groups that were created and changed at the same moment.
        sql.execute(
            """
            UPDATE users SET created_at = LEAST(one, other), updated_at = GREATEST(one, other)
            FROM (SELECT id,
                      to_timestamp(1.8e9 + round(extract(epoch FROM created_at) * 1009) % 13) AS one,
                      to_timestamp(1.8e9 + round(extract(epoch FROM updated_at) * 2003) % 13) AS other
                  FROM users) AS times
            WHERE times.id = users.id
            """
        )
        sql.execute("ANALYZE users")
        yield Directory(api, [api.get(path).json() for path in (*paths, f"{USERS}/{OWNER_ID}")])


# So that three hundred users take every way that a page or a total of millions can take.
SMALL = {
    "STRETCH_PER_ROW": 1,
    "LONGEST_FIRST_STRETCH": 7,
    "COLLECTED": 30,
    "COUNTED": 25,
    "FREQUENT": 0,
    "MANY_TO_SORT": 5,
    "SAMPLED": 2,
    "ENOUGH_IN_SPARSE": 4,
    # A sample of every second row is no proof that many match.
    "MANY": 1_000_000,
}
SAMPLES: dict[str, Any] = {
    "dense": "get_byte(uuid_send(id), 15) & 1 = 0",
    "sparse": "get_byte(uuid_send(id), 15) & 1 = 0 AND get_byte(uuid_send(id), 14) & 1 = 0",
}


@pytest.fixture(
    params=[
        pytest.param(False, id="as it is"),
        pytest.param(True, id="small budgets", marks=pytest.mark.in_process),
    ]
)
def reach(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """As it is, and with budgets that a list soon exhausts; returns how far totals are counted."""
    if request.param:
        for name, value in SMALL.items():
            monkeypatch.setattr(listing, name, value)
        monkeypatch.setattr(users, "LISTING", replace(users.LISTING, **SAMPLES))
        monkeypatch.setattr(views, "COUNTED", SMALL["COUNTED"])
        monkeypatch.setattr(totals, "_REMEMBERED_S", 0)
    return listing.COUNTED


def assert_same(found: list[User], expected: list[User], query: Query) -> None:
    """The same users in the same order, each whole."""
    assert [user["tag"] for user in found] == [user["tag"] for user in expected], query
    assert found == expected, query


def assert_total(page: dict[str, Any], expected: int, counted: int) -> None:
    """The total agrees with the filter: exact as far as it is counted, and never below that beyond."""
    if expected <= counted:
        assert (page["total"], page["totalIsEstimate"]) == (expected, False)
    else:
        assert page["totalIsEstimate"] is True
        assert page["total"] > counted


# Tests


def test_the_model_is_varied(directory: Directory) -> None:
    """The tests below mean something: ties in every order, every status, users without an address."""
    for member in ("createdAt", "updatedAt", "email", "name"):
        keys = [order_key(user, member) for user in directory.users]
        assert len(set(keys)) < len(keys)
    assert {user["status"] for user in directory.users} == {"active", "suspended", "deleted"}
    assert sum(user["email"] is None for user in directory.users) > 20


@pytest.mark.parametrize("sort", SORTS)
def test_paging_shows_everyone_once_in_order(directory: Directory, reach: int, sort: str) -> None:
    """litellm #15762: paging 583 users gave some 50 twice and missed 50, for want of a tie-break."""
    query = [("sort", sort)]
    expected = directory.expected(query)
    assert len(expected) == NUMBER - 30 + 1  # the owner, who asks
    for size in (4, 90):
        assert_same(directory.by_cursor(query, size), expected, query)
    if reach >= NUMBER:
        assert_same(directory.by_page(query, 27), expected, query)


@pytest.mark.parametrize("sort", SORTS)
def test_paging_a_filtered_list(directory: Directory, reach: int, sort: str) -> None:
    """The same with filters that many and that few fulfil, which are found in different ways."""
    filters: list[Query] = [
        [("kind", "human")],
        [("kind", "service"), ("role", "member"), ("role", "admin")],
        [("role", "owner")],
        [("status", "deleted")],
        [("status", "deleted"), ("status", "active"), ("status", "suspended")],
        [("tag[prefix]", "ada")],
        [("email[prefix]", "a")],
        [("name[prefix]", "a")],
        [("q", "ada")],
        [("attributes[team]", "7")],
        [("q", "ada"), ("kind", "human"), ("tag[prefix]", "b")],
        [("q", "e"), ("attributes[cost centre]", "3")],
        [("q", "ex com"), ("attributes[team]", "7"), ("attributes[cost centre]", "1")],
        [("name", "Ada Lovelace"), ("name", "x"), ("name", "nobody")],
    ]
    for chosen in filters:
        query = [*chosen, ("sort", sort)]
        expected = directory.expected(query)
        assert expected, query
        assert_same(directory.by_cursor(query, 19), expected, query)
        assert_total(directory.page(query), len(expected), reach)


def test_filters_by_value(directory: Directory, reach: int) -> None:
    """Each value that occurs finds those that have it: zitadel's lists missed users that were there."""
    for member in ("id", "tag", "email", "name", "kind", "role", "status"):
        values = sorted({user[member] for user in directory.users if user[member] is not None})
        for value in values[:: max(1, len(values) // 25)]:
            asked = value.swapcase() if member in {"id", "tag", "email"} else value
            for query in ([(member, asked)], [(member, asked), ("status", "deleted"), ("status", "suspended")]):
                if member == "status" and len(query) > 1:
                    continue
                page = directory.page([*query, ("size", "200"), ("sort", "name")])
                expected = directory.expected([*query, ("sort", "name")])
                assert_same(page["data"], expected[:200], query)
                assert_total(page, len(expected), reach)


def test_any_of_many_values(directory: Directory, reach: int) -> None:
    """A repeated parameter is "any of": a hundred values in one request, absent and repeated ones among them."""
    tags = [user["tag"] for user in directory.users[:70]]
    ids = [user["id"] for user in directory.users[40:110]]
    for query in (
        [("tag", tag) for tag in [*tags, *tags[:20], "nobody"]],
        [("id", user_id) for user_id in ids],
        [("tag", tag) for tag in tags] + [("id", user_id) for user_id in ids],
    ):
        for sort in ("-createdAt", "tag", "name"):
            asked = [*query, ("sort", sort)]
            expected = directory.expected(asked)
            assert_same(directory.by_cursor(asked, 9), expected, asked)
            assert_total(directory.page(asked), len(expected), reach)


@pytest.mark.parametrize("member", ["createdAt", "updatedAt"])
@pytest.mark.usefixtures("reach")
def test_filters_by_time(directory: Directory, member: str) -> None:
    """Each border belongs to one side, to the microsecond, and a zone is no part of the moment."""
    moments = sorted({moment(user[member]) for user in directory.users})
    early, late = moments[3], moments[-3]
    for lower, upper in itertools.product(("gte", "gt"), ("lte", "lt")):
        query = [
            (f"{member}[{lower}]", early.isoformat()),
            (f"{member}[{upper}]", late.isoformat().replace("+00:00", "Z")),
            ("sort", member),
        ]
        assert_same(directory.by_cursor(query, 31), directory.expected(query), query)
    tokyo = (early + timedelta(hours=9)).replace(tzinfo=None).isoformat() + "+09:00"
    query = [(f"{member}[gte]", tokyo), (f"{member}[lte]", tokyo), ("sort", "tag")]
    expected = directory.expected(query)
    assert expected
    assert_same(directory.by_cursor(query, 50), expected, query)
    assert directory.page([(f"{member}[gt]", late.isoformat()), (f"{member}[lt]", early.isoformat())])["total"] == 0


@pytest.mark.parametrize("text", ATTRIBUTE_TEXTS)
@pytest.mark.usefixtures("reach")
def test_attributes_by_value(directory: Directory, text: str) -> None:
    """A text in a query means the string and, where it is one, the number, boolean or null; nothing else."""
    query = [("attributes[team]", text), ("sort", "tag")]
    expected = directory.expected(query)
    assert_same(directory.by_cursor(query, 4), expected, query)
    for user in expected:
        assert user["attributes"]["team"] in (text, 7, 7.5, True, False, None)
    both = [*query, ("attributes[cost centre]", "3")]
    assert_same(directory.by_cursor(both, 4), directory.expected(both), both)
    assert directory.page([("attributes[absent]", text)])["total"] == 0


def test_attributes_tell_one_from_true(api: httpx.Client) -> None:
    """JSON's 1, true, "1" and "true" are four values; a text in a query means at most two of them."""
    values = {"number": 1, "text": "1", "boolean": True, "word": "true", "null": None, "no": "null"}
    for tag, value in values.items():
        api.post(USERS, json={"tag": tag, "kind": "service", "attributes": {"a": value, "x": {"a": value}}})
    found_by = {"1": ["number", "text"], "1.0": ["number"], "true": ["boolean", "word"], "null": ["no", "null"]}
    for text, tags in found_by.items():
        found = api.get(USERS, params={"attributes[a]": text, "sort": "tag"}).json()["data"]
        assert [user["tag"] for user in found] == tags


@pytest.mark.parametrize(
    ("query", "tags"),
    [
        # Words: beginnings, in any order, each of them, across tag, email and name.
        ({"q": "love"}, ["ada"]),
        ({"q": "LOVELACE Ad"}, ["ada"]),
        ({"q": "ada example"}, ["ada"]),
        ({"q": "ovelace"}, []),
        ({"q": "ada nobody"}, []),
        ({"q": "ada.l@example"}, ["ada"]),
        # Case and diacritics make no difference on either side.
        ({"q": "zoe"}, ["plain", "zoe"]),
        ({"q": "ZOË"}, ["plain", "zoe"]),
        ({"name[prefix]": "zoé b"}, ["plain", "zoe"]),
        ({"q": "dang"}, ["viet"]),
        ({"name[prefix]": "ĐẶNG thi"}, ["viet"]),
        ({"q": "strasse"}, ["german"]),
        ({"q": "STRAßE"}, ["german"]),
        ({"q": "ανθη"}, ["greek"]),
        ({"q": "елка"}, ["russian"]),
        # Scripts without spaces: the beginning of what is written, and each part that is set apart.
        ({"q": "李"}, ["chinese"]),
        ({"q": "李小"}, ["chinese"]),
        ({"q": "小龍"}, []),
        ({"q": "太郎"}, ["japanese"]),
        ({"q": "김민"}, ["korean"]),
        ({"name[prefix]": "김"}, ["korean"]),
        ({"q": "ｆｕｌｌ"}, ["wide"]),
        ({"q": "full"}, ["wide"]),
        # A prefix begins at the beginning and takes what it is given, spaces included.
        ({"name[prefix]": "lovelace"}, []),
        ({"name[prefix]": "ada l"}, ["ada"]),
        ({"name[prefix]": "ada  l"}, []),
        ({"tag[prefix]": "a"}, ["ada"]),
        ({"email[prefix]": "ADA.L"}, ["ada"]),
        ({"email[prefix]": "example"}, []),
        # A name that is equal is equal to the letter; what is alike is found by its words.
        ({"name": "Zoë Brontë"}, ["zoe"]),
        ({"name": "Zoe Bronte"}, ["plain"]),
        ({"name": "zoe bronte"}, []),
        # Nothing that is a word finds nobody, not everybody.
        ({"q": "!"}, []),
        ({"q": " "}, []),
        ({"q": "😀"}, []),
    ],
)
def test_words_and_prefixes(languages: httpx.Client, query: dict[str, str], tags: list[str]) -> None:
    """keycloak #33166: people are looked for as they are typed, whatever the case, the accents and the script."""
    answer = languages.get(USERS, params=query | {"sort": "tag"}).json()
    assert ([user["tag"] for user in answer["data"]], answer["total"]) == (tags, len(tags))


@pytest.fixture(scope="module")
def languages(
    postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Iterator[httpx.Client]:
    """A few names in a few scripts."""
    names = {
        "ada": "Ada Lovelace", "zoe": "Zoë Brontë", "plain": "Zoe Bronte", "viet": "Đặng Thị Ánh", "german": "Straße",
        "greek": "Άνθη", "russian": "Ёлка", "chinese": "李小龍", "japanese": "山田 太郎", "korean": "김민수",
        "wide": "ＦＵＬＬ", "smile": "😀",
    }  # fmt: skip
    with (
        own_database(postgres, tmp_path_factory.mktemp("languages")) as settings,
        mounted(settings, pytestconfig) as api,
    ):
        for tag, name in names.items():
            email = {"email": "Ada.L@example.com"} if tag == "ada" else {}
            assert api.post(USERS, json={"tag": tag, "name": name, "kind": "service", **email}).status_code == 201
        yield api


def test_totals_and_pages_agree(directory: Directory) -> None:
    """open-webui #19429: wrong totals; kratos #2286: page 0 was page 1. The pages hold the total, each another part."""
    for query in ([], [("kind", "service")], [("status", "deleted")], [("q", "ada")]):
        first = directory.page([*query, ("size", "5")])
        again = directory.page([*query, ("size", "5"), ("page", "1")])
        second = directory.page([*query, ("size", "5"), ("page", "2")])
        assert first == again | {"nextCursor": first["nextCursor"]}
        assert (first["page"], second["page"], first["size"]) == (1, 2, 5)
        assert not {user["id"] for user in first["data"]} & {user["id"] for user in second["data"]}
        assert first["total"] == second["total"] == len(directory.by_page(query, 5)) == len(directory.expected(query))
        beyond = directory.page([*query, ("size", "5"), ("page", str(first["total"] // 5 + 2))])
        assert (beyond["data"], beyond["nextCursor"], beyond["total"]) == ([], None, first["total"])


def test_next_cursor_stands_exactly_where_there_is_more(directory: Directory, reach: int) -> None:
    """supabase-js #636: a list that ends in silence truncates a job; one that never ends repeats it."""
    for query in ([("role", "owner")], [("status", "deleted")], [("q", "smith")], [("tag[prefix]", "zz")]):
        number = len(directory.expected(query))
        assert number > 1
        for size, more in ((number - 1, True), (number, False), (number + 1, False)):
            for how in ([], [("count", "none")], [("page", "1")]):
                if how and how[0][0] == "page" and size > reach:
                    continue
                page = directory.page([*query, ("size", str(size)), *how])
                assert (page["nextCursor"] is not None) is more
                assert len(page["data"]) == min(size, number)


@pytest.mark.usefixtures("reach")
def test_count_none_leaves_the_total_out(directory: Directory) -> None:
    """`count=none` spares the work and says so by absence; the rows are the same."""
    counted, plain_page = directory.page([("kind", "human")]), directory.page([("kind", "human"), ("count", "none")])
    assert {"total", "totalIsEstimate"} <= set(counted)
    assert not {"total", "totalIsEstimate"} & set(plain_page)
    assert plain_page["data"] == counted["data"]
    assert set(plain_page) == {"data", "page", "size", "nextCursor"}


def test_a_page_by_cursor_has_no_number(directory: Directory) -> None:
    """A cursor does not know how many came before it, and does not pretend to."""
    first = directory.page([("size", "5")])
    second = directory.page([("size", "5"), ("cursor", first["nextCursor"])])
    assert "page" not in second
    assert second["total"] == first["total"]


@pytest.mark.usefixtures("reach")
def test_deleted_users_are_listed_only_when_asked_for(directory: Directory) -> None:
    """No filter brings them in by the way, and `status=deleted` brings them alone."""
    deleted = {user["tag"] for user in directory.users if user["status"] == "deleted"}
    assert len(deleted) == 30
    assert {user["tag"] for user in directory.by_cursor([("status", "deleted")], 8)} == deleted
    for tag in sorted(deleted):
        (user,) = [user for user in directory.users if user["tag"] == tag]
        for query in ([("tag", tag)], [("id", user["id"])], [("tag[prefix]", tag)], [("q", tag)]):
            assert tag not in [found["tag"] for found in directory.page(query)["data"]]
            asked = directory.page([*query, ("status", "deleted")])["data"]
            assert tag in [found["tag"] for found in asked]


def test_what_is_committed_is_found_at_once(api: httpx.Client) -> None:
    """zitadel #9770, #7543: created users were missing from the search. Here nothing lags behind."""
    for number in range(10):
        tag = f"user-{number}"
        api.post(USERS, json={"tag": tag, "kind": "service", "name": f"Name{number} Old"})
        path = api.get(USERS, params={"q": f"name{number}"}).json()["data"][0]["id"]
        api.put(f"{USERS}/{path}", json={"name": f"Name{number} New", "attributes": {"n": number}})
        for query in ({"q": f"new name{number}"}, {"name[prefix]": f"name{number} n"}, {"attributes[n]": str(number)}):
            assert [user["tag"] for user in api.get(USERS, params=query).json()["data"]] == [tag]
        assert api.get(USERS, params={"q": f"name{number} old"}).json()["total"] == 0
        assert api.get(USERS).json()["total"] == number + 2


@pytest.mark.in_process
def test_a_page_takes_a_fixed_number_of_queries(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    """litellm #28221, open-webui #13724: a query per row to draw a list."""
    queries: list[object] = []
    execute = psycopg.Connection.execute

    def counted(connection: psycopg.Connection, query: object, *args: Any, **kwargs: Any) -> object:
        queries.append(query)
        return execute(connection, query, *args, **kwargs)  # type: ignore[call-overload]

    monkeypatch.setattr(psycopg.Connection, "execute", counted)
    numbers = set()
    for size in ("1", "20", "200"):
        queries.clear()
        assert directory.page([("size", size), ("kind", "human")])["data"]
        numbers.add(len(queries))
    assert max(numbers) <= 4


# A random query against the model


@dataclass
class Parts:
    """Values that occur in the directory, and some that do not."""

    users: list[User]

    def values(self, member: str) -> list[str]:
        """The values of a member."""
        return sorted({str(user[member]) for user in self.users if user[member] is not None})


def beginning(texts: list[str]) -> st.SearchStrategy[str]:
    """The beginning of one of these texts."""
    return st.tuples(st.sampled_from(texts), st.integers(1, 12)).map(lambda pair: pair[0][: pair[1]])


def queries_over(users: list[User]) -> st.SearchStrategy[Query]:
    """Any combination of filters, with an order, over values that occur."""
    parts = Parts(users)
    once: dict[str, st.SearchStrategy[str]] = {
        "tag[prefix]": beginning(parts.values("tag")),
        "email[prefix]": beginning(parts.values("email")),
        "name[prefix]": beginning(list(NAMES)).filter(lambda text: plain(text) != ""),
        "q": st.lists(beginning([*NAMES, *parts.values("tag")]), min_size=1, max_size=3).map(" ".join),
        "attributes[team]": st.sampled_from(ATTRIBUTE_TEXTS),
        "attributes[cost centre]": st.sampled_from(["0", "3", "4", "5"]),
        **{f"createdAt[{how}]": st.sampled_from(parts.values("createdAt")) for how in ("gte", "gt", "lte", "lt")},
        **{f"updatedAt[{how}]": st.sampled_from(parts.values("updatedAt")) for how in ("gte", "gt", "lte", "lt")},
        "sort": st.sampled_from(SORTS),
    }
    most = {"tag": 40, "email": 40, "id": 40, "name": 9, "kind": 2, "role": 3, "status": 3}
    any_of = {
        member: st.lists(st.sampled_from(parts.values(member)), min_size=1, max_size=few)
        for member, few in most.items()
    }
    singles = st.fixed_dictionaries({}, optional=once).map(lambda found: [*found.items()])
    lists = st.fixed_dictionaries({}, optional=any_of).map(
        lambda found: [(name, value) for name, values in found.items() for value in values]
    )
    # Few filters at a time, or nearly every combination would find nobody.
    return st.tuples(singles, lists, st.randoms(use_true_random=False)).map(lambda drawn: fewer(*drawn))


def fewer(singles: Query, lists: Query, chance: random.Random) -> Query:
    """At most three of the parameters, and the order."""
    names = sorted({name for name, _ in [*singles, *lists]} - {"sort"})
    kept = {*chance.sample(names, min(len(names), chance.choice((0, 1, 1, 2, 2, 3)))), "sort"}
    return [(name, value) for name, value in [*singles, *lists] if name in kept]


@pytest.mark.parametrize("size", [3, 40])
def test_any_combination_of_filters_equals_the_model(directory: Directory, reach: int, size: int) -> None:
    """Whatever is combined, the rows, their order and the total are what plain Python finds."""

    @hypothesis_settings(
        max_examples=50, derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
    )
    @given(query=queries_over(directory.users))
    def check(query: Query) -> None:
        expected = directory.expected(query)
        page = directory.page([*query, ("size", str(size))])
        assert_same(page["data"], expected[:size], query)
        assert_total(page, len(expected), reach)
        assert (page["nextCursor"] is not None) is (len(expected) > size)
        if len(expected) < 60 * size:
            assert_same(directory.by_cursor(query, size), expected, query)

    check()


@pytest.mark.in_process
@pytest.mark.parametrize("reach", [True], indirect=True)
@pytest.mark.usefixtures("reach")
def test_a_bound_that_came_too_early_cuts_no_page(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is a match when the sample is asked can be gone when the page is read: what lies behind the bound counts."""
    bounds = []

    def too_early(query: Any, items: list[Any]) -> str:
        bounds.append(last_in_sample(query, items))
        return bounds[-1].replace(f"OFFSET {query.wanted - 1}", "OFFSET 0")

    last_in_sample = listing._Query.last_in_sample
    monkeypatch.setattr(listing._Query, "last_in_sample", too_early)
    for sort in SORTS:
        query = [("q", "a"), ("sort", sort)]
        assert_same(directory.page([*query, ("size", "10")])["data"], directory.expected(query)[:10], query)
    assert bounds


def test_a_page_that_is_no_page_is_not_the_first(directory: Directory) -> None:
    """kratos #2286: there is no page 0."""
    for page in ("0", "-1"):
        assert directory.api.get(USERS, params={"page": page}).status_code == 400


def test_orders_are_those_of_the_contract() -> None:
    """A sort that is added to the API is added to this model too."""
    assert set(SORTS) == {order.value for order in UserOrder}
