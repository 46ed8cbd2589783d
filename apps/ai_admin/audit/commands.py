"""`ai-admin audit`: the log sealed, verified, and proofs of its events."""

import json
from pathlib import Path
from typing import Annotated
from uuid import UUID

import psycopg
import typer
from nacl.signing import VerifyKey
from rich.progress import Progress

from ai_admin.audit.sealing import (
    AlreadySealing,
    Waiting,
    checkpoint,
    parse_checkpoint,
    prove,
    seal_waiting,
    signing_key,
    verify_log,
)
from ai_admin.audit.seals import EventNotSealed, Head, Verification, key_id
from ai_admin.config import ConfigError, load_database_settings, load_settings
from ai_admin.config import config_root as default_root
from ai_admin.database import Database
from ai_admin.errors import ApiError
from ai_admin.terminal import Exit, Root, failure, print_json, refusal, stderr

app = typer.Typer()
_NO_KEY = "AUDIT_SEAL_KEY is not set in the Secret, so nothing is sealed"


@app.command()
def seal(root: Root = None) -> None:
    """Seal the events that wait, until none does. A running server and Fission's time trigger do so by themselves.

    Example: ai-admin audit seal
    """
    try:
        settings = load_settings(root)
    except ConfigError as fault:
        raise failure(fault, Exit.TROUBLE) from None
    key = signing_key(settings.secret)
    if key is None:
        raise failure(_NO_KEY, Exit.TROUBLE)
    events, last = 0, None
    database = Database(settings)
    try:
        for last in seal_waiting(database, key):
            events += len(last.ids)
    except ApiError as fault:
        raise refusal(fault) from None
    except AlreadySealing:
        raise failure("another process is sealing", Exit.REFUSED) from None
    finally:
        database.close()
    typer.echo(f"sealed {events:,} events; checkpoint {checkpoint(last.head)}" if last else "no event waits for a seal")


@app.command("public-key")
def public_key(root: Root = None) -> None:
    """Print the public key of AUDIT_SEAL_KEY, which whoever verifies the log or checks a proof needs.

    Example: ai-admin audit public-key
    """
    typer.echo(bytes(_own_key(root)).hex())


def _key(text: str) -> VerifyKey:
    return VerifyKey(bytes.fromhex(text))


@app.command()
def verify(
    root: Root = None,
    public_keys: Annotated[
        list[VerifyKey] | None,
        typer.Option(
            "--public-key",
            parser=_key,
            metavar="HEX",
            help="Trust this key and no other that is not given; may be repeated. That of AUDIT_SEAL_KEY otherwise.",
        ),
    ] = None,
    expected: Annotated[
        Head | None,
        typer.Option(
            "--checkpoint",
            parser=parse_checkpoint,
            metavar="NUMBER:HASH",
            help="What an earlier verification printed: the log must still lead through it.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Verify every seal and every event, and print a checkpoint to keep elsewhere.

    Exit 0 if all is as it was sealed, 1 if not, 2 on trouble.

    Example: ai-admin audit verify
    """
    keys = {key_id(key): key for key in public_keys or [_own_key(root)]}
    try:
        settings = load_database_settings(root or default_root())
        with Progress(console=stderr, transient=True) as progress:
            task = progress.add_task("Verifying", total=None)
            result, waiting = verify_log(
                settings,
                keys,
                expected,
                lambda done, total: progress.update(task, completed=done, total=total),
            )
    except (ConfigError, psycopg.Error) as fault:
        raise failure(fault, Exit.TROUBLE) from None
    if as_json:
        print_json(_described(result, waiting))
    else:
        _print(result, waiting)
    if not result.ok:
        raise failure("\n       ".join(map(str, result.findings.values())), Exit.REFUSED)


def _described(result: Verification, waiting: Waiting) -> dict[str, object]:
    """The result for programs; a fault has the number of its seal and the id of its event, where it has one."""
    faults = [
        {"fault": each.fault.name, "seal": each.seal, "event": each.event and str(each.event)}
        for each in result.findings.values()
    ]
    return {
        "events": result.events,
        "seals": result.seals,
        "checkpoint": checkpoint(result.head),
        "waiting": waiting.events,
        "waitingSince": waiting.since and waiting.since.isoformat(),
        "checkedPeople": result.checked_people,
        "faults": faults,
    }


def _print(result: Verification, waiting: Waiting) -> None:
    typer.echo(f"{result.events:,} events in {result.seals:,} seals; checkpoint {checkpoint(result.head)}")
    if waiting.events:
        typer.echo(f"{waiting.events:,} events wait for a seal, the oldest since {waiting.since or 'an unknown time'}")
    if not result.checked_people:
        typer.echo("the keys of persons were not checked: the role needs SELECT on audit_people")


@app.command("proof")
def print_proof(event: Annotated[UUID, typer.Argument(help="The event's id.")], root: Root = None) -> None:
    """Print the proof that an event stands in the log, as JSON for examples/check_audit_proof.py.

    Example: ai-admin audit proof 01890a5d-ac96-774b-bcce-b302099a8057 > proof.json
    """
    try:
        typer.echo(json.dumps(prove(load_database_settings(root or default_root()), event), indent=2))
    except EventNotSealed:
        raise failure(f"no seal covers an event {event} as the log has it", Exit.REFUSED) from None
    except (ConfigError, psycopg.Error) as fault:
        raise failure(fault, Exit.TROUBLE) from None


def _own_key(root: Path | None) -> VerifyKey:
    try:
        key = signing_key(load_settings(root).secret)
    except ConfigError as fault:
        raise failure(fault, Exit.TROUBLE) from None
    if key is None:
        raise failure(_NO_KEY, Exit.TROUBLE)
    return key.verify_key
