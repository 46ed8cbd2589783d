"""`ai-admin doctor`: whether a deployment has all that it needs, and what to do where it has not."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

import psycopg
from psycopg.rows import dict_row
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from ai_admin.access.identity import ProviderUnavailable, count_keys
from ai_admin.audit.sealing import signing_key, verify_log
from ai_admin.audit.seals import key_id
from ai_admin.client.api import AsJson
from ai_admin.config import ConfigError, Settings, load_settings, unknown_settings
from ai_admin.database import (
    SCHEMA_VERSION,
    Connection,
    connection_arguments,
    encoding_fault,
    schema_fault,
    schema_version,
)
from ai_admin.sql import queries
from ai_admin.terminal import Exit, Root, failure, print_json, stderr, stdout
from ai_admin.vault.mounted import load_key_ring
from ai_admin.vault.registry import connect, count_rows

# The oldest that the service runs on, as `SHOW server_version_num` has it (docs/operations.md).
_OLDEST_POSTGRES = 150_000
# Tokens and keys end by the clock: from here on, in seconds, people notice.
_CLOCK_S = 5
# Less than this is little, in GiB.
_LITTLE_GIB = 2
# A sealer that runs seals within seconds.
_SEAL_DELAY_S = 300
_STYLES = {"good": "green", "note": "yellow", "bad": "bold red"}


@dataclass(frozen=True)
class Finding:
    """What one check found: `good`, `note` or `bad`; what is so, and what to do where it is not good."""

    check: str
    state: str
    found: str
    advice: str = ""


def doctor(root: Root = None, as_json: AsJson = False) -> None:
    """Check settings, database, schema, key ring, seals, clock, disk and identity provider, and say what to do.

    Exit 0 if nothing is bad, 1 if something is.

    Example: ai-admin doctor

    Example: ai-admin doctor --json
    """
    findings = list(_examine(root))
    if as_json:
        for finding in findings:
            print_json(asdict(finding))
    else:
        table = Table("check", "", "found", "what to do", box=None, pad_edge=False)
        for each in findings:
            table.add_row(each.check, Text(each.state, style=_STYLES[each.state]), Text(each.found), Text(each.advice))
        stdout().print(table)
    bad = [finding.check for finding in findings if finding.state == "bad"]
    if bad:
        raise failure(f"not well: {', '.join(bad)}", Exit.REFUSED)


def _examine(root: Path | None) -> Iterator[Finding]:
    """All findings. What needs the database is left out where it cannot be reached."""
    try:
        settings = load_settings(root)
    except ConfigError as error:
        yield Finding("settings", "bad", str(error), "ai-admin config check names each, and where it is read from")
        return
    unknown = " ".join(unknown_settings(root))
    if unknown:
        yield Finding("settings", "bad", unknown, "rename the key in the Secret or ConfigMap, or remove it")
    else:
        yield Finding("settings", "good", f"under {settings.root}")
    yield from _cursor_keys(settings)
    yield from _database(settings)
    yield _provider(settings)
    yield _disk("disk, temporary files", Path(tempfile.gettempdir()), "imports over HTTP are kept there meanwhile")


def _database(settings: Settings) -> Iterator[Finding]:
    secret = settings.secret
    place = f"{secret.pg_database} at {secret.pg_host}:{secret.pg_port}"
    try:
        arguments = connection_arguments(secret, settings.config.connect_timeout_s)
        with psycopg.connect(**arguments, autocommit=True, row_factory=dict_row) as connection:
            yield _version(connection, place)
            yield _clock(connection)
            if fault := encoding_fault(connection):
                yield _fault("encoding", fault)
                return
            if fault := schema_fault(schema_version(connection)):
                yield _fault("schema", fault)
                return
            yield from _read_only(connection)
            yield Finding("schema", "good", SCHEMA_VERSION)
        yield _ring(settings)
        yield _seals(settings)
    except psycopg.Error as error:
        told = " ".join(str(error.diag.message_primary or error).split())
        yield Finding("database", "bad", f"{place}: {told}", "check PG_* with ai-admin config check, and the network")
        return
    # A folder is the embedded one's, or a socket's on the machine of the database.
    if Path(secret.pg_host).is_dir():
        yield _disk("disk, database", Path(secret.pg_host), "PostgreSQL stops when it is full")


def _fault(check: str, fault: str) -> Finding:
    """Return what is wrong and what to do, from a sentence that says both."""
    found, _, advice = fault.partition(": ")
    return Finding(check, "bad", found, advice)


def _read_only(connection: Connection) -> Iterator[Finding]:
    row = connection.execute(queries("service")["is_read_only"]).fetchone()
    if row and row["is_read_only"]:
        advice = "name the primary in PG_HOST, or promote this one; until then every change is refused"
        yield Finding("read-only", "note", "the database takes no changes, as a standby does", advice)


def _version(connection: Connection, place: str) -> Finding:
    number = connection.info.server_version
    version = f"PostgreSQL {number // 10_000}.{number % 10_000}, {place}"
    if number < _OLDEST_POSTGRES:
        return Finding("database", "bad", version, "PostgreSQL 15 or newer is needed")
    return Finding("database", "good", version)


def _clock(connection: Connection) -> Finding:
    row = connection.execute("SELECT clock_timestamp() AS now").fetchone()
    assert row is not None, "it always answers"
    seconds = abs((datetime.now(timezone.utc) - row["now"]).total_seconds())
    if seconds > _CLOCK_S:
        return Finding("clock", "bad", f"{seconds:,.0f} s off the database's", "synchronise both clocks (NTP)")
    return Finding("clock", "good", f"within {_CLOCK_S} s of the database's")


def _ring(settings: Settings) -> Finding:
    ring = load_key_ring(settings.root)
    with closing(connect(settings.secret)) as connection:
        rows_by_column = count_rows(connection)
    used = {name for rows in rows_by_column.values() for name, number in rows.items() if number}
    missing = sorted(name for name in used if (key := ring.find(name)) is None or key.state == "retired")
    if missing:
        return Finding(
            "key ring",
            "bad",
            f"values need {', '.join(missing)}, which does not open",
            "deploy the ring that has it, if another process seals with it; else put it into VAULT_KEYS as active, "
            "then ai-admin vault rotate; ai-admin vault status counts",
        )
    old = sorted(used - {ring.primary.id})
    if old:
        return Finding("key ring", "note", f"values under {', '.join(old)}", "ai-admin vault rotate seals them anew")
    idle = sorted(key.id for key in ring.keys if key.state == "active")
    if idle:
        return Finding(
            "key ring",
            "note",
            f"primary {ring.primary.id}; {', '.join(idle)} active, and no row needs it",
            "promote a new key once every process has this ring, and retire a former one",
        )
    return Finding("key ring", "good", f"primary {ring.primary.id}")


def _cursor_keys(settings: Settings) -> Iterator[Finding]:
    """A note while CURSOR_KEY is being changed: left like this, a key that was to go still opens."""
    keys = len(settings.secret.cursor_keys())
    if keys > 1:
        found = f"{keys} keys: the first seals, and all open"
        advice = "once every process has this setting, put the new key first; after that, leave it alone"
        yield Finding("cursor key", "note", found, advice)


def _seals(settings: Settings) -> Finding:
    key = signing_key(settings.secret)
    if key is None:
        return Finding("seals", "note", "nothing is sealed", "set AUDIT_SEAL_KEY for a log that proves itself")
    public = key.verify_key
    with Progress(console=stderr, transient=True) as progress:
        task = progress.add_task("Verifying the audit log", total=None)
        result, waiting = verify_log(
            settings.secret,
            {key_id(public): public},
            None,
            lambda done, total: progress.update(task, completed=done, total=total),
        )
    if not result.ok:
        return Finding("seals", "bad", "; ".join(map(str, result.findings.values())), "ai-admin audit verify says more")
    age = (datetime.now(timezone.utc) - waiting.since).total_seconds() if waiting.since else 0
    if age > _SEAL_DELAY_S:
        advice = "ai-admin audit seal does it now; a server and Fission's time trigger do it always"
        return Finding("seals", "bad", f"{waiting.events:,} events wait since {waiting.since}", advice)
    return Finding("seals", "good", f"{result.events:,} events verified, {waiting.events:,} wait")


def _disk(check: str, folder: Path, why: str) -> Finding:
    free = shutil.disk_usage(folder).free / 2**30
    state = "good" if free >= _LITTLE_GIB else "bad"
    return Finding(check, state, f"{free:,.1f} GiB free at {folder}", "" if state == "good" else f"make room: {why}")


def _provider(settings: Settings) -> Finding:
    url = settings.config.oidc_jwks_url
    if not url:
        return Finding("identity provider", "note", "none: API keys alone sign in", "OIDC_* names one, if there is one")
    try:
        keys = count_keys(url)
    except ProviderUnavailable as error:
        return Finding("identity provider", "bad", f"{url}: {error}", "check OIDC_JWKS_URL, the network and its TLS")
    return Finding("identity provider", "good", f"{keys} keys at {url}")
