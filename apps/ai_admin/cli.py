"""The command line of operators: `ai-admin`, also as `python -m ai_admin`."""

import os
import tempfile
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import psycopg
import typer
from rich.markup import escape
from rich.table import Table
from sqlalchemy.exc import SQLAlchemyError

from ai_admin.audit import commands as audit
from ai_admin.client import audit as _audit_tail  # noqa: F401  adds its command to those of audit
from ai_admin.client import keys, secrets
from ai_admin.client import users as _users  # noqa: F401  adds its commands to those of transfer
from ai_admin.client.api import DEFAULT_URL, Url, keep_key, read_key, server_with
from ai_admin.command_groups import Commands
from ai_admin.config import ROOT_VARIABLE, ConfigError, Reading, config_root, load_settings, readings, unknown_settings
from ai_admin.database import fault_of_database
from ai_admin.deploy import commands as deploy
from ai_admin.doctor import doctor
from ai_admin.errors import ApiError
from ai_admin.server import serve as serve_settings
from ai_admin.terminal import Exit, Root, failure, print_json, printable, refusal, stderr, stdout
from ai_admin.transfer import commands as transfer
from ai_admin.vault import commands as vault

app = typer.Typer(
    cls=Commands,
    help="Operate AI Admin, the user directory of an AI platform.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
config = typer.Typer(help="Look at the settings.", no_args_is_help=True)
app.add_typer(config, name="config")
app.add_typer(deploy.app, name="deploy")
app.add_typer(audit.app, name="audit")
app.add_typer(vault.app, name="vault")
app.add_typer(transfer.app, name="users")
app.add_typer(keys.app, name="keys")
app.add_typer(secrets.app, name="secrets")

app.command()(doctor)


@app.command()
def login(url: Url = DEFAULT_URL) -> None:
    """Try an API key, which is read from standard input, and keep it in the system's keyring for this address.

    Example: ai-admin login --url https://ai-admin.example.com < owner.key
    """
    key = read_key(None, "", "API key")
    with server_with(url, key) as api:
        me = api.ask("GET", ("ai", "me"))
    keep_key(url, key)
    stderr.print(f"signed in to {url} as {printable(me['tag'])}", soft_wrap=True, markup=False)


@config.command()
def check(
    root: Root = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: an object a line for each setting.")] = False,
) -> None:
    """Print every setting with its value and source, secrets masked; exit 1 where one is missing, wrong or unknown.

    Example: ai-admin config check --root .local/data/mount
    """
    stderr.print(f"Settings under {root or config_root()}", soft_wrap=True)
    found = list(readings(root))
    if as_json:
        for reading in found:
            print_json({("value" if name == "shown" else name): told for name, told in asdict(reading).items()})
    else:
        _print_settings(found)
    faults = [reading.fault for reading in found if reading.fault] + list(unknown_settings(root))
    if faults:
        raise failure("\n       ".join(faults), Exit.REFUSED)


def _print_settings(found: list[Reading]) -> None:
    table = Table("setting", "value", "source", "meaning", box=None, pad_edge=False)
    for reading in found:
        shown = f"[bold red]{reading.shown or '(missing)'}[/]" if reading.fault else reading.shown
        table.add_row(reading.key, shown, reading.source, reading.meaning)
    stdout().print(table)


@app.command()
def migrate(root: Root = None) -> None:
    """Bring the database to the schema of this version. Safe to run while the service runs, and twice.

    Example: ai-admin migrate
    """
    from ai_admin import migrate as migrations  # noqa: PLC0415  Alembic and SQLAlchemy are slow to import

    try:
        before, after = migrations.upgrade(load_settings(root).secret)
    except ApiError as error:
        raise refusal(error) from None
    except (ConfigError, psycopg.Error, SQLAlchemyError) as error:
        raise failure(error, Exit.TROUBLE) from None
    typer.echo(f"schema {before or 'empty'} -> {after}" if before != after else f"schema {after}, up to date")


@app.command()
def make_owner(
    tag: Annotated[str, typer.Argument(help="Tag of the new owner.")] = "owner",
    root: Root = None,
) -> None:
    """Make an owner with an API key in the database of the settings, and print the key: this once, and nothing else.

    Example: ai-admin make-owner first-owner > owner.key
    """
    from ai_admin.access.bootstrap import make_owner as make  # noqa: PLC0415  as above

    try:
        typer.echo(make(load_settings(root), tag))
    except ApiError as error:
        raise refusal(error) from None
    except (ConfigError, ValueError) as error:
        raise failure(error, Exit.TROUBLE) from None


@app.command()
def bind_identity(
    tag: Annotated[str, typer.Argument(help="Tag of the user, of any role.")],
    issuer: Annotated[str, typer.Argument(help="Issuer (iss) of the tokens, as OIDC_ISSUER has it.")],
    subject: Annotated[str, typer.Argument(help="The person's subject (sub) there.")],
    root: Root = None,
) -> None:
    """Let a subject of an identity provider sign in as a user, instead of the one that did; owners and admins too.

    Example: ai-admin bind-identity ada https://id.example.com/realms/acme 8f1c2a54-2b0e-4c59-9d57-0c1f6f1b7a10
    """
    from ai_admin.access import identities  # noqa: PLC0415  as above
    from ai_admin.access.actors import service  # noqa: PLC0415
    from ai_admin.database import Database  # noqa: PLC0415

    try:
        settings = load_settings(root)
        with closing(Database(settings)) as database, database.transaction() as connection:
            former = identities.bind(connection, service("bind-identity"), tag, issuer, subject)
    except ApiError as error:
        raise refusal(error) from None
    except (ConfigError, ValueError) as error:
        raise failure(error, Exit.TROUBLE) from None
    for one in former:
        stderr.print(f"{printable(one)} has lost an identity of {printable(issuer)}", soft_wrap=True, markup=False)
    stderr.print(f"bound to {printable(tag)}", soft_wrap=True, markup=False)
    if issuer != settings.config.oidc_issuer:
        stderr.print(f"note: OIDC_ISSUER is another one, so tokens of {issuer} are not accepted", soft_wrap=True)


@app.command()
def serve(
    root: Root = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8080,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Server processes.")] = 1,
) -> None:
    """Serve the API, its documentation, health and metrics in one process tree, on the database of the settings.

    Example: ai-admin serve --host 0.0.0.0 --workers 4
    """
    try:
        settings = load_settings(root)
    except ConfigError as error:
        raise failure(error, Exit.TROUBLE) from None
    os.environ[ROOT_VARIABLE] = str(settings.root)
    if fault := fault_of_database(settings):
        # It starts all the same: the migration may be on its way, and a database that is away may come.
        stderr.print(f"[bold yellow]warning:[/] {escape(fault)}", soft_wrap=True)
    with tempfile.TemporaryDirectory(prefix="ai-admin-metrics-") as metrics:
        serve_settings(host, port, workers, Path(metrics), lambda address: stderr.print(f"Serving {address}"))


def main() -> None:
    """Entry of the console script, and of `python -m ai_admin`: completion and usage know one name."""
    app(prog_name="ai-admin")
