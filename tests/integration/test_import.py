"""Imports of users: the directory holds what a file says, whatever is wrong with rows, whenever it is killed."""

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest
from nacl.signing import SigningKey

from ai_admin.access.actors import Actor, service
from ai_admin.access.scopes import ROLE_SCOPES
from ai_admin.audit.sealing import seal_waiting, verify_log
from ai_admin.audit.seals import key_id
from ai_admin.config import Settings
from ai_admin.database import Database
from ai_admin.errors import Unauthenticated
from ai_admin.transfer.formats import (
    FORMATS,
    _from_cells,
    _quoted,
    _unquoted,
    read_litellm,
    read_open_webui,
)
from ai_admin.transfer.importing import ImportElsewhere, Outcome, Summary, import_users
from ai_admin.transfer.tables import LONGEST_LINE, FileInvalid
from ai_admin.users.schemas import Role
from tests.conftest import ROOT

USERS = "/ai/admin/users"
BY = service("import")


def ndjson(*users: dict[str, Any]) -> io.BytesIO:
    """A file with these users."""
    return io.BytesIO(b"".join(json.dumps(user).encode() + b"\n" for user in users))


def person(tag: str, **members: Any) -> dict[str, Any]:
    """A human with an address of their own."""
    return {"tag": tag, "email": f"{tag}@example.com", **members}


def rejected(outcome: Outcome, settings: Settings) -> dict[int, str]:
    """Lines and error codes of what was not taken."""
    return {reject.line: reject.problem["errorCode"] for reject in outcome.rejects(settings)}


def stored(sql: psycopg.Connection) -> list[tuple[Any, ...]]:
    """All users but the tests' owner, without what the service sets."""
    return sql.execute(
        "SELECT tag, email, name, name_key, kind, role, status, models, attributes, words::text, version FROM users"
        " WHERE tag <> 'zz-owner' ORDER BY tag, id"
    ).fetchall()


def logged(sql: psycopg.Connection) -> list[tuple[str, str]]:
    """Actions of the log, with the tags of whom they are about."""
    return sql.execute(
        "SELECT tag, action FROM audit_events JOIN users ON users.id = target_id ORDER BY tag, action"
    ).fetchall()


def test_an_import_writes_what_the_api_would(settings: Settings, sql: psycopg.Connection, api: httpx.Client) -> None:
    """Derived columns, defaults and events are those of a create: lists, searches and the log see no difference."""
    users = [
        person("Ada", name="Đặng Thị Ánh", models=["gpt-5*", "gpt-5*"], attributes={"team": "x", "n": [1, 2.5, None]}),
        person("bob"),
        {"tag": "bot", "kind": "service", "status": "suspended"},
        person("boss", role="owner"),
    ]
    outcome = import_users(settings, BY, ndjson(*users), "ndjson")
    assert outcome.summary == Summary(records=4, created=4)
    imported = stored(sql)
    sql.execute("DELETE FROM users WHERE tag <> 'zz-owner'")
    for user in users:
        assert api.post(USERS, json=user).status_code == 201
    assert stored(sql) == imported
    assert [action for _, action in logged(sql)] == ["users:create"] * 4


def test_bad_rows_are_reported_and_the_others_taken(settings: Settings, sql: psycopg.Connection) -> None:
    """Each with its line and what the API would say of it; no value of the row is repeated."""
    lines = [
        json.dumps(person("ada")),
        "",
        json.dumps(person("bad tag!", attributes={"secret": "sesame"})),
        "{no json",
        json.dumps(person("x", colour="sesame")),
        '"text"',
        json.dumps({"tag": "human-without-email"}),
        json.dumps(person("ada2", email="ADA@example.com")),
        '{"tag": "' + "x" * LONGEST_LINE + '"}',
        json.dumps(person("nul", attributes={"a\0": 1})),
        json.dumps(person("bob")),
    ]
    outcome = import_users(settings, BY, io.BytesIO("\n".join(lines).encode() + b"\n\xff\xfe\n"), "ndjson", batch=3)
    assert rejected(outcome, settings) == dict.fromkeys((3, 4, 5, 6, 7, 8, 9, 10, 12), "VALIDATION_ERROR")
    assert outcome.summary == Summary(records=11, created=2, rejected=9)
    assert [row[0] for row in stored(sql)] == ["ada", "bob"]
    told = json.dumps([reject.problem for reject in outcome.rejects(settings)])
    assert "sesame" not in told
    assert "colour" in told


def test_rows_with_repeated_members_are_refused_alone(settings: Settings, sql: psycopg.Connection) -> None:
    """`"role": "member", "role": "owner"` made an owner."""
    lines = [
        json.dumps(person("ada")),
        '{"tag": "eve", "kind": "service", "role": "member", "role": "owner"}',
        '{"tag": "zoe", "kind": "service", "attributes": {"a": [{"b\\u0000": 1, "b\\u0000": 1}]}}',
        json.dumps(person("bob")),
    ]
    outcome = import_users(settings, BY, io.BytesIO("\n".join(lines).encode()), "ndjson")
    assert rejected(outcome, settings) == {2: "VALIDATION_ERROR", 3: "VALIDATION_ERROR"}
    (detail,) = next(iter(outcome.rejects(settings))).problem["details"]
    assert (detail["type"], detail["loc"]) == ("repeated", ["body", "role"])
    table = 'tag,kind,attributes\nx,service,"{""a"": 1, ""a"": 2}"\ny,service,"{""n"": 123456789012345678901}"\n'
    table += "z,service,\n"
    outcome = import_users(settings, BY, io.BytesIO(table.encode()), "csv")
    assert rejected(outcome, settings) == {2: "VALIDATION_ERROR", 3: "VALIDATION_ERROR"}
    assert [row[0] for row in stored(sql)] == ["ada", "bob", "z"]


def test_a_second_import_changes_what_differs_and_nothing_else(settings: Settings, sql: psycopg.Connection) -> None:
    """An upsert is a PUT of the members that the file has: those it lacks stay, and equal ones make no version."""
    import_users(settings, BY, ndjson(person("ada", name="Ada", models=["a"]), person("bob"), person("eve")), "ndjson")
    again = ndjson(person("ADA", models=["b"]), person("bob"), {"tag": "eve", "status": "suspended"}, person("new"))
    outcome = import_users(settings, BY, again, "ndjson")
    assert outcome.summary == Summary(records=4, created=1, changed=2, unchanged=1)
    rows = {row[0]: row for row in stored(sql)}
    assert (rows["ada"][2], rows["ada"][7], rows["ada"][-1]) == ("Ada", ["b"], 2)
    assert (rows["bob"][-1], rows["eve"][6], rows["eve"][1]) == (1, "suspended", "eve@example.com")
    assert [one for one in logged(sql) if one[1] != "users:create"] == [
        ("ada", "users:update"),
        ("eve", "users:suspend"),
    ]


def test_import_of_values_python_holds_equal_changes_and_records_them(
    settings: Settings, sql: psycopg.Connection
) -> None:
    """A file that turns 0 into false changes the user, with an event that says so; 1.0 for 1 changes nothing."""
    first = ndjson(person("ada", attributes={"a": [0]}), person("bob", attributes={"a": 1}))
    import_users(settings, BY, first, "ndjson")
    again = ndjson(person("ada", attributes={"a": [False]}), person("bob", attributes={"a": 1.0}))
    outcome = import_users(settings, BY, again, "ndjson")
    assert outcome.summary == Summary(records=2, changed=1, unchanged=1)
    assert [row[-1] for row in stored(sql)] == [2, 1]
    (personal,) = sql.execute("SELECT personal IS NOT NULL FROM audit_events WHERE action = 'users:update'").fetchall()
    assert personal == (True,)


TWICE = {
    "csv": "tag,email,name\npeter,peter@example.com,Peter\nbad tag,b@example.com,\nPETER,p2@example.com,Other\n"
    "petra,Peter@Example.com,\nbob,bob@example.com,\n",
    "ndjson": "".join(
        json.dumps({"tag": tag, "email": email}) + "\n"
        for tag, email in (
            ("", ""), ("peter", "peter@example.com"), ("bad tag", "b@example.com"), ("PETER", "p2@example.com"),
            ("petra", "Peter@Example.com"), ("bob", "bob@example.com"),
        )
    ),
    "keycloak": json.dumps(
        {"users": [
            {"username": name, "email": f"{name}@example.com".replace("petra", "Peter")}
            for name in ("", "peter", "b@d", "petra", "bob")
        ]}
    ),
    "litellm": json.dumps(
        {"users": [
            {"user_id": name, "user_email": f"{name[:5]}@example.com" if name != "svc" else None}
            for name in ("peter", "bob", "svc", "PETER", "svc")
        ]}
    ),
    "openai": json.dumps(
        {"data": [{"id": name, "email": f"{name}@example.com"} for name in ("peter", "bob", "Peter", "eve")]}
    ),
    "open-webui": "Name,Email,Password,Role\nPeter,peter@example.com,x,user\nBob,bob@example.com,x,user\n"
    "Other,PETER@example.com,x,admin\n",
}  # fmt: skip
REPEATED = {
    "csv": {4: "Lines 2 and 4 have the same tag", 5: "Lines 2 and 5 have the same email"},
    "ndjson": {4: "Lines 2 and 4 have the same tag", 5: "Lines 2 and 5 have the same email"},
    "keycloak": {4: "Users 2 and 4 have the same email"},
    "litellm": {4: "Users 1 and 4 have the same email", 5: "Users 3 and 5 have the same tag"},
    "openai": {3: "Users 1 and 3 have the same email"},
    "open-webui": {4: "Lines 2 and 4 have the same email"},
}


@pytest.mark.parametrize("batch", [1, 2, 100])
@pytest.mark.parametrize("form", list(TWICE))
def test_import_of_user_named_twice_rejects_second_row(settings: Settings, form: str, batch: int) -> None:
    """The second row overwrote the first one without a word (kolibri #11890), also where only the case differs."""
    file = io.BytesIO(TWICE[form].encode())
    foreseen = import_users(settings, BY, file, form, dry_run=True, batch=batch)
    real = import_users(settings, BY, file, form, batch=batch)
    assert list(foreseen.rejects(settings)) == list(real.rejects(settings))
    assert foreseen.summary == real.summary
    assert real.summary.changed == 0
    told = {
        reject.line: detail["msg"]
        for reject in real.rejects(settings)
        for detail in reject.problem["details"]
        if detail["type"] == "repeated"
    }
    assert told == {line: f"{text}: keep one of them" for line, text in REPEATED[form].items()}


def test_import_resumed_finds_user_named_before_the_stop(settings: Settings, sql: psycopg.Connection) -> None:
    """An import that goes on after a kill overwrote users of its first part."""
    users = [person("peter", name="One"), person("bob"), person("Peter", name="Two", email="p@example.com")]

    def stop(progress: Any) -> None:
        if progress.summary.records == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_users(settings, BY, ndjson(*users), "ndjson", batch=2, progress=stop)
    outcome = import_users(settings, BY, ndjson(*users), "ndjson", batch=2)
    assert (outcome.resumed_at, rejected(outcome, settings)) == (2, {3: "VALIDATION_ERROR"})
    assert [(row[0], row[2]) for row in stored(sql)] == [("bob", "bob"), ("peter", "One")]


def test_a_dry_run_says_what_would_come_and_leaves_nothing(settings: Settings, sql: psycopg.Connection) -> None:
    """The summary is that of the import itself, also where rows of the file meet one another; nothing is written."""
    import_users(settings, BY, ndjson(person("ada", name="Ada"), person("bob")), "ndjson")
    before = stored(sql), logged(sql)
    users = [
        person("ada", name="New"), person("eve"), person("bad tag"), person("trent", email="bob@example.com"),
        person("mallory", email="new@example.com"), person("bob", email="bob2@example.com"),
    ]  # fmt: skip
    foreseen = import_users(settings, BY, ndjson(*users), "ndjson", dry_run=True, batch=2)
    assert (stored(sql), logged(sql)) == before
    assert sql.execute("SELECT count(*) FROM imports WHERE finished_at IS NULL").fetchone() == (0,)
    real = import_users(settings, BY, ndjson(*users), "ndjson", batch=2)
    assert rejected(foreseen, settings) == rejected(real, settings)
    assert foreseen.summary == real.summary == Summary(records=6, created=2, changed=2, rejected=2)


def admin(sql: psycopg.Connection, **members: Any) -> Actor:
    """An administrator of the directory, without a key as far as standing goes."""
    user_id = UUID("00000000-0000-7000-8000-00000000000a")
    sql.execute(
        "INSERT INTO users (id, tag, name, name_key, kind, role, status, models, attributes, words)"
        " VALUES (%s, 'admin', 'admin', 'admin', 'service', 'admin', 'active', '{}', '{}', '')",
        [user_id],
    )
    return Actor("test", user_id, role=Role.ADMIN, scopes=ROLE_SCOPES[Role.ADMIN], source="192.0.2.1", **members)


def test_nobody_imports_a_role_that_they_may_not_grant(settings: Settings, sql: psycopg.Connection) -> None:
    """An administrator makes members, and neither owners nor auditors, by a file as little as by a request."""
    import_users(settings, BY, ndjson(person("boss", role="owner"), person("peer", role="member")), "ndjson")
    users = [
        person("a", role="owner"), person("b", role="auditor"), person("c"), person("boss", name="Gone"),
        person("peer", role="owner"), person("d", role="admin"),
    ]  # fmt: skip
    outcome = import_users(settings, admin(sql), ndjson(*users), "ndjson")
    assert rejected(outcome, settings) == dict.fromkeys((1, 2, 4, 5), "FORBIDDEN")
    assert [row[0] for row in stored(sql)] == ["admin", "boss", "c", "d", "peer"]


def test_who_is_put_out_imports_nothing_more(settings: Settings, sql: psycopg.Connection) -> None:
    """Standing is looked at in each batch, as in each request; the batches before it stay."""
    by = admin(sql)

    def suspend(progress: Any) -> None:
        if progress.summary.created == 4:
            sql.execute("UPDATE users SET status = 'suspended' WHERE tag = 'admin'")

    users = [person(f"u{number}") for number in range(10)]
    with pytest.raises(Unauthenticated):
        import_users(settings, by, ndjson(*users), "ndjson", batch=2, progress=suspend)
    assert len(stored(sql)) == 1 + 4


def test_the_last_owner_stays(settings: Settings, sql: psycopg.Connection) -> None:
    """A file is no way round the rules of changes."""
    outcome = import_users(settings, BY, ndjson({"tag": "zz-owner", "kind": "service", "role": "member"}), "ndjson")
    assert rejected(outcome, settings) == {1: "LAST_OWNER"}
    assert sql.execute("SELECT role FROM users").fetchall() == [("owner",)]


_IMPORT = """
import sys
from pathlib import Path
from ai_admin.access.actors import service
from ai_admin.config import load_settings
from ai_admin.transfer.importing import import_users
with open(sys.argv[2], "rb") as file:
    import_users(load_settings(Path(sys.argv[1])), service("import"), file, "ndjson", batch=20,
                 progress=lambda progress: print(progress.summary.records, flush=True))
"""


def test_a_killed_import_goes_on_and_nothing_is_doubled(
    settings: Settings, database: Database, sql: psycopg.Connection, tmp_path: Path
) -> None:
    """Killed three times anywhere (SIGKILL): the same directory, one event a user, the whole report, and seals hold."""
    rows = [person(f"u{number}") if number % 10 else person(f"bad {number}") for number in range(1000)]
    path = tmp_path / "users.ndjson"
    path.write_bytes(ndjson(*rows).getvalue())
    for until in (100, 420, 700):
        process = subprocess.Popen(
            [sys.executable, "-c", _IMPORT, str(settings.root), str(path)],
            env={**os.environ, "PYTHONPATH": str(ROOT / "apps")},
            stdout=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stdout
            assert any(int(line) >= until for line in process.stdout)
            process.send_signal(signal.SIGKILL)
    with path.open("rb") as file:
        outcome = import_users(settings, BY, file, "ndjson")
    assert outcome.resumed_at >= 700
    assert outcome.summary == Summary(records=1000, created=900, rejected=100)
    assert list(rejected(outcome, settings)) == list(range(1, 1000, 10))
    assert len(stored(sql)) == 900
    assert logged(sql) == [(row[0], "users:create") for row in stored(sql)]
    key = SigningKey(bytes(32))
    assert sum(len(seal.ids) for seal in seal_waiting(database, key)) == 900
    verification, waiting = verify_log(settings.secret, {key_id(key.verify_key): key.verify_key})
    assert (verification.ok, waiting.events) == (True, 0)


def test_two_imports_of_one_file_do_not_double_it(settings: Settings, sql: psycopg.Connection) -> None:
    """Whoever comes second to a batch steps back; what the first one has done stays."""
    users = [person(f"u{number}") for number in range(6)]

    def intrude(progress: Any) -> None:
        if progress.summary.records == 2:
            import_users(settings, BY, ndjson(*users), "ndjson", batch=2)

    with pytest.raises(ImportElsewhere):
        import_users(settings, BY, ndjson(*users), "ndjson", batch=2, progress=intrude)
    assert len(stored(sql)) == 6
    assert len(logged(sql)) == 6


CSV = """\
tag,email,name,models,attributes,kind
ada,ada@example.com,"Lovelace, Ada",gpt-5* claude-*,"{""team"": ""x""}",
bot,,'=SUM(A1),,,service
short,row
worse,worse@example.com,x,,{no json,
"multi
line",m@example.com,,,,
eve,eve@example.com,,,,
"""


def test_csv(settings: Settings, sql: psycopg.Connection) -> None:
    """Quoted cells, several lines to a row, what a spreadsheet would take for a formula; rows have their first line."""
    outcome = import_users(settings, BY, io.BytesIO(b"\xef\xbb\xbf" + CSV.encode()), "csv")
    assert rejected(outcome, settings) == dict.fromkeys((4, 5, 6), "VALIDATION_ERROR")
    rows = stored(sql)
    assert [(row[0], row[2], row[7], row[8]) for row in rows] == [
        ("ada", "Lovelace, Ada", ["gpt-5*", "claude-*"], {"team": "x"}),
        ("bot", "=SUM(A1)", [], {}),
        ("eve", "eve", [], {}),
    ]


def test_csv_blanks_around_cells_are_no_part_of_them(settings: Settings, sql: psycopg.Connection) -> None:
    """A blank behind a comma refused the row, though blanks around the header's names did nothing."""
    rows = (
        "tag, email ,name,kind,models,attributes",
        "spacecase, spacecase@example.com ,Space Case, human ,  gpt-5*  , {} ",
        "\u00a0nbsp\u00a0,\tnbsp@example.com,  '=SUM(A1) ,\u3000,,",
    )
    outcome = import_users(settings, BY, io.BytesIO("\n".join(rows).encode()), "csv")
    assert outcome.summary == Summary(records=2, created=2), list(outcome.rejects(settings))
    assert [(row[0], row[1], row[2], row[7]) for row in stored(sql)] == [
        ("nbsp", "nbsp@example.com", "=SUM(A1)", []),
        ("spacecase", "spacecase@example.com", "Space Case", ["gpt-5*"]),
    ]


def test_import_of_international_domain_finds_the_user_by_either_form(settings: Settings) -> None:
    """The same address in two forms was refused in one of them, or would have been two users."""
    first = "tag,email\nada,ada@B\u00fccher.example\nbob,bob@xn--bcher-kva.example\n"
    assert import_users(settings, BY, io.BytesIO(first.encode()), "csv").summary == Summary(records=2, created=2)
    again = "Name,Email,Password,Role\nA,ADA@xn--bcher-kva.example,,user\nB,bob@b\u00fccher.example,,user\n"
    outcome = import_users(settings, BY, io.BytesIO(again.encode()), "open-webui")
    assert outcome.summary == Summary(records=2, changed=2), list(outcome.rejects(settings))
    twice = "tag,email\nx,x@b\u00fccher.example\ny,x@xn--bcher-kva.example\n"
    outcome = import_users(settings, BY, io.BytesIO(twice.encode()), "csv")
    assert rejected(outcome, settings) == {3: "VALIDATION_ERROR"}


@pytest.mark.parametrize(
    ("form", "content", "told"),
    [
        ("csv", b"", "is empty"),
        ("csv", b"tag,colour\n", "no column 'colour'"),
        ("csv", b"tag,tag\n", "twice"),
        ("keycloak", b"{}", "no users at users"),
        ("keycloak", b'{"users": [{}', "no JSON"),
        ("openai", b"name,email", "no JSON"),
    ],
)
def test_a_file_of_another_kind_is_refused(settings: Settings, form: str, content: bytes, told: str) -> None:
    """Who takes the wrong format is told so."""
    with pytest.raises(FileInvalid, match=told):
        import_users(settings, BY, io.BytesIO(content), form)


@pytest.mark.parametrize(
    ("form", "good"),
    [("csv", b"tag,email\nada,ada@example.com\n"), ("open-webui", b"name,email\nAda,ada@example.com\n")],
)
def test_a_table_that_is_given_up_leaves_nothing(
    settings: Settings, sql: psycopg.Connection, form: str, good: bytes
) -> None:
    """Its quotes are looked at before the first row is taken: half of it would be there otherwise."""
    with pytest.raises(FileInvalid, match="too many quoted cells"):
        import_users(settings, BY, io.BytesIO(good + b'a","\n' * 4_000), form, batch=1)
    assert stored(sql) == []


FOREIGN = {
    "keycloak": {
        "realm": "acme",
        "users": [
            {"id": "k-1", "username": "ada", "email": "ada@example.com", "firstName": "Ada", "lastName": "Lovelace",
             "enabled": False, "attributes": {"team": ["x"], "sites": ["a", "b"]},
             "credentials": [{"type": "password", "secretData": "sesame"}], "realmRoles": ["admin"]},
            {"id": "k-2", "username": "service-account-bot", "serviceAccountClientId": "bot", "enabled": True},
        ],
    },
    "litellm": {
        "users": [
            {"user_id": "ada", "user_email": "ada@example.com", "user_role": "proxy_admin_viewer", "models": ["gpt-5"],
             "user_alias": "Ada Lovelace", "metadata": {"team": "x"}, "spend": 1.5},
            {"user_id": "default_user_id", "user_email": None, "user_role": "internal_user", "models": []},
        ],
        "total": 2,
    },
    "openai": {
        "object": "list",
        "data": [
            {"object": "organization.user", "id": "user_1", "name": "Ada Lovelace", "email": "ada@example.com",
             "role": "owner", "added_at": 1711471533},
            {"object": "organization.user", "id": "user_2", "name": "Bob", "email": "bob@example.com",
             "role": "reader"},
        ],
        "has_more": False,
    },
    "open-webui": "Name,Email,Password,Role\n"
    "Ada Lovelace,ada@example.com,sesame,admin\nBob,bob@example.com,x,pending\n",
}  # fmt: skip
TAKEN = {
    "keycloak": [
        ("ada", "Ada Lovelace", "human", "member", "suspended", [],
         {"team": "x", "sites": ["a", "b"], "keycloakId": "k-1"}),
        ("service-account-bot", "service-account-bot", "service", "member", "active", [], {"keycloakId": "k-2"}),
    ],
    "litellm": [
        ("ada", "Ada Lovelace", "human", "auditor", "active", ["gpt-5"], {"team": "x", "litellmId": "ada"}),
        ("default_user_id", "default_user_id", "service", "member", "active", ["*"], {"litellmId": "default_user_id"}),
    ],
    "openai": [
        ("ada-example.com", "Ada Lovelace", "human", "admin", "active", [], {"openaiId": "user_1"}),
        ("bob-example.com", "Bob", "human", "member", "active", [], {"openaiId": "user_2"}),
    ],
    "open-webui": [
        ("ada-example.com", "Ada Lovelace", "human", "admin", "active", [], {}),
        ("bob-example.com", "Bob", "human", "member", "suspended", [], {}),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("form", "members", "status"),
    [
        ("litellm", {"metadata": {"scim_active": False}}, "suspended"),
        ("litellm", {"metadata": {"scim_active": True}}, "active"),
        ("litellm", {"metadata": {}}, None),
        ("litellm", {"blocked": True}, "suspended"),
        ("keycloak", {"enabled": True}, "active"),
        ("keycloak", {"enabled": False}, "suspended"),
        ("openai", {"disabled_at": 1711471533}, "suspended"),
        ("openai", {"user": {"banned_at": 1711471533}}, "suspended"),
        ("openai", {"user": {"enabled": False}}, "suspended"),
        ("openai", {"user": {"enabled": True, "banned": False, "banned_at": None}}, None),
        ("anthropic", {"status": "Inactive"}, "suspended"),
    ],
)
def test_import_of_user_disabled_elsewhere_suspends_them(form: str, members: dict[str, Any], status: str) -> None:
    """A user who had left the company came in active, with all models (litellm PR #21113)."""
    user = {"username": "ada", "user_id": "ada", "email": "ada@example.com", "user_email": "ada@example.com"}
    user |= {"type": "user"} if form == "anthropic" else {}
    (record,) = FORMATS[form].read(io.BytesIO(json.dumps([user | members]).encode()))
    assert isinstance(record.members, dict)
    assert record.members.get("status") == status


def test_import_of_several_realms_reads_all_users(settings: Settings, sql: psycopg.Connection) -> None:
    """The realms themselves were taken for users (keycloak-config-cli #143)."""
    realms = [
        {"realm": "master", "users": [{"username": "root", "email": "root@example.com"}]},
        {"realm": "empty"},
        {"realm": "acme", "users": [
            {"username": "mona", "email": "mona@example.com"},
            {"username": "nils", "email": "nils@example.com", "enabled": False},
        ]},
    ]  # fmt: skip
    outcome = import_users(settings, BY, io.BytesIO(json.dumps(realms).encode()), "keycloak")
    assert outcome.summary == Summary(records=3, created=3), list(outcome.rejects(settings))
    assert [(row[0], row[6]) for row in stored(sql)] == [("mona", "active"), ("nils", "suspended"), ("root", "active")]
    mixed = json.dumps([*realms, {"username": "eve", "email": "eve@example.com"}]).encode()
    with pytest.raises(FileInvalid, match="put them into two files"):
        import_users(settings, BY, io.BytesIO(mixed), "keycloak")
    twice = json.dumps(realms).replace('"realm": "acme"', '"users": []').encode()
    with pytest.raises(FileInvalid, match="occurs twice"):
        import_users(settings, BY, io.BytesIO(twice), "keycloak")


def test_import_of_names_that_make_one_tag_creates_all_users(settings: Settings, sql: psycopg.Connection) -> None:
    """Two names that make one tag, and names in another script, lost users (coder #4576, keycloak #28231)."""
    import_users(settings, BY, ndjson(person("dora", email="other@example.com")), "ndjson")
    names = {
        "b\u00e4cker": "baecker@example.com", "b\u00e4ckers": "b2@example.com", "\u5f35\u5049": "zw@example.com",
        "\u0438\u0432\u0430\u043d": "iv@example.com", "a b": "ab1@example.com", "a-b": "ab2@example.com",
        "dora": "dora@example.com", "ab2-example.com": "x@example.com", "ab2 example.com": "ab2@example-com.example",
    }  # fmt: skip
    users = [{"username": name, "email": email} for name, email in names.items()]
    users += [{"username": name, "serviceAccountClientId": name} for name in ("job x", "job-x", "\u4f5c\u696d")]
    file = io.BytesIO(json.dumps(users).encode())
    foreseen = import_users(settings, BY, file, "keycloak", dry_run=True)
    outcome = import_users(settings, BY, file, "keycloak", batch=2)
    assert foreseen.summary == outcome.summary == Summary(records=12, created=12), list(outcome.rejects(settings))
    tags = {email or name: tag for tag, email, name, *_ in stored(sql)}
    assert tags["baecker@example.com"] == "backer"
    assert tags["zw@example.com"] == "zw-example.com"
    assert tags["iv@example.com"] == "iv-example.com"
    assert (tags["ab1@example.com"], tags["ab2@example.com"]) == ("a-b", "ab2-example.com")
    assert tags["dora@example.com"] == "dora-example.com"
    assert import_users(settings, BY, file, "keycloak").summary == Summary(records=12, unchanged=12)


def test_import_of_open_webui_addresses_that_make_one_tag_creates_all(
    settings: Settings, sql: psycopg.Connection
) -> None:
    """Addresses that differ in a dot or a plus alone lost the second user."""
    addresses = ("rita@hill-corp.example", "rita-hill@corp.example", "tess+lab@example.com", "tess-lab@example.com")
    file = "name,email,role\n" + "".join(f"X,{address},user\n" for address in addresses)
    outcome = import_users(settings, BY, io.BytesIO(file.encode()), "open-webui")
    assert outcome.summary == Summary(records=4, created=4), list(outcome.rejects(settings))
    assert {row[1] for row in stored(sql)} == set(addresses)


def test_import_of_anthropic_list_is_no_list_of_openai(settings: Settings, sql: psycopg.Connection) -> None:
    """An admin of Anthropic's list came in as a member, with the id of one service as that of another."""
    ada = {"id": "user_01", "type": "user", "email": "ada@example.com", "name": "Ada", "role": "admin"}
    bob = {"id": "user_02", "type": "user", "email": "bob@example.com", "name": "Bob", "role": "claude_code_user"}
    file = json.dumps({"data": [ada, bob], "has_more": False, "first_id": "user_01", "last_id": "user_02"}).encode()
    with pytest.raises(FileInvalid, match="the format anthropic"):
        import_users(settings, BY, io.BytesIO(file), "openai")
    with pytest.raises(FileInvalid, match="the format openai"):
        import_users(settings, BY, io.BytesIO(json.dumps(FOREIGN["openai"]).encode()), "anthropic")
    assert stored(sql) == []
    assert import_users(settings, BY, io.BytesIO(file), "anthropic").summary == Summary(records=2, created=2)
    assert [(row[0], row[5], row[8]) for row in stored(sql)] == [
        ("ada-example.com", "admin", {"anthropicId": "user_01"}),
        ("bob-example.com", "member", {"anthropicId": "user_02"}),
    ]
    with pytest.raises(FileInvalid, match="goes on after"):
        import_users(settings, BY, io.BytesIO(file.replace(b"false", b"true")), "anthropic")


@pytest.mark.parametrize(
    ("models", "allowed"),
    [
        (None, ["*"]),
        ([], ["*"]),
        (["all-proxy-models"], ["*"]),
        (["no-default-models"], []),
        (["no-default-models", "gpt-5"], []),
        (["openai/*", "gpt-5"], ["openai/*", "gpt-5"]),
    ],
)
def test_nobody_of_litellm_gains_models(models: list[str] | None, allowed: list[str]) -> None:
    """Who calls models through a team alone gets none here, whatever else the list names."""
    user = {"user_id": "ada", "user_email": "ada@example.com", "user_role": "internal_user", "models": models}
    (record,) = read_litellm(io.BytesIO(json.dumps({"users": [user], "total": 1}).encode()))
    assert isinstance(record.members, dict)
    assert record.members["models"] == allowed


def test_open_webui_is_read_as_it_reads_itself() -> None:
    """Roles in any case, blanks around cells, and a bad role named in its row."""
    file = b"Name,Email,Password,Role\n Ada Lovelace , ada@example.com ,x, Admin\nBob,bob@example.com,x,owner\n"
    first, second = read_open_webui(io.BytesIO(file))
    assert isinstance(first.members, dict)
    assert (first.members["name"], first.members["email"]) == ("Ada Lovelace", "ada@example.com")
    assert first.members["role"] == "admin"
    assert second[:2] == (3, "role is none of admin, user and pending")


@pytest.mark.parametrize("form", list(FOREIGN))
def test_lists_of_other_systems(settings: Settings, sql: psycopg.Connection, form: str) -> None:
    """Each by its public format; passwords stay where they are, and a second import changes nothing."""
    source = FOREIGN[form]
    content = source.encode() if isinstance(source, str) else json.dumps(source).encode()
    outcome = import_users(settings, BY, io.BytesIO(content), form)
    assert outcome.summary == Summary(records=2, created=2), list(outcome.rejects(settings))
    assert [(row[0], row[2], *row[4:9]) for row in stored(sql)] == TAKEN[form]
    assert "sesame" not in str(sql.execute("SELECT users::text FROM users").fetchall())
    assert import_users(settings, BY, io.BytesIO(content), form).summary == Summary(records=2, unchanged=2)


def test_another_systems_list_gives_nobody_who_is_there_another_role(
    settings: Settings, sql: psycopg.Connection
) -> None:
    """Who is found by the address keeps tag and role; the list decides about new users alone."""
    import_users(settings, BY, ndjson(person("ada", role="auditor", name="A")), "ndjson")
    outcome = import_users(settings, BY, io.BytesIO(json.dumps(FOREIGN["openai"]).encode()), "openai")
    assert outcome.summary == Summary(records=2, created=1, changed=1)
    ada = stored(sql)[0]
    assert (ada[0], ada[2], ada[5]) == ("ada", "Ada Lovelace", "auditor")


def test_csv_cells_go_both_ways() -> None:
    """Whatever a name begins with comes back as it was."""
    for cell in ("=1", "'=1", "''=1", "'x", "-", "+a", "@b", "\tc", "x=1", ""):
        assert _unquoted(_quoted(cell)) == cell
        assert not _quoted(cell).startswith(("=", "+", "-", "@", "\t"))
    assert _from_cells({"tag": "a", "models": "*  b", "email": ""}) == {"tag": "a", "models": ["*", "b"]}
