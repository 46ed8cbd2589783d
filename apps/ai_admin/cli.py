"""The command line of operators: `ai-admin`, also as `python -m ai_admin`."""

import os
import tempfile
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from ai_admin import ROOT_VARIABLE, __version__
from ai_admin.client.api import DEFAULT_URL, AsJson, Url, keep_key, read_key, server_with
from ai_admin.command_groups import Commands, deferred
from ai_admin.terminal import Exit, Root, failure, print_json, printable, refusal, stderr, stdout

# Whatever speaks to a database or renders a stage is imported by the command that needs it: `--help` and the commands
# that ask a server do not wait for it. A test holds them to it.
# ruff: noqa: PLC0415

app = typer.Typer(
    cls=Commands,
    help="Operate AI Admin, the user directory of an AI platform.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)
config = typer.Typer(help="Look at the settings.", no_args_is_help=True)
app.add_typer(config, name="config")
for _name, _about, *_modules in (
    ("deploy", "Render, compare, apply and verify the stages of .fission/*.json.", "deploy.commands"),
    ("audit", "Seal the audit log, verify it, prove what stands in it.", "client.audit", "audit.commands"),
    ("vault", "Keys of the vault: what they have sealed, and how they are changed.", "vault.commands"),
    (
        "users",
        "Find and change users through a server; import and export them on the database.",
        "client.users",
        "transfer.commands",
    ),
    ("keys", "List, make, rotate and revoke API keys of users, and report leaked ones.", "client.keys"),
    ("secrets", "List, set, reveal, remove and restore users' credentials.", "client.secrets"),
):
    app.add_typer(deferred(_about, *(f"ai_admin.{module}" for module in _modules)), name=_name)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ai-admin {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
) -> None:
    """Operate AI Admin, the user directory of an AI platform."""


@app.command()
def doctor(root: Root = None, as_json: AsJson = False) -> None:
    """Check settings, database, schema, key ring, seals, clock, disk and identity provider, and say what to do.

    Exit 0 if nothing is bad, 1 if something is.

    Example: ai-admin doctor

    Example: ai-admin doctor --json
    """
    from ai_admin.doctor import doctor as examine

    examine(root, as_json)


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
    from ai_admin.config import config_root, readings, unknown_settings

    stderr.print(f"Settings under {root or config_root()}", soft_wrap=True)
    found = list(readings(root))
    if as_json:
        for reading in found:
            print_json({("value" if name == "shown" else name): told for name, told in asdict(reading).items()})
    else:
        table = Table("setting", "value", "source", "meaning", box=None, pad_edge=False)
        for reading in found:
            shown = f"[bold red]{reading.shown or '(missing)'}[/]" if reading.fault else reading.shown
            table.add_row(reading.key, shown, reading.source, reading.meaning)
        stdout().print(table)
    faults = [reading.fault for reading in found if reading.fault] + list(unknown_settings(root))
    if faults:
        raise failure("\n       ".join(faults), Exit.REFUSED)


@app.command()
def migrate(root: Root = None) -> None:
    """Bring the database to the schema of this version. Safe to run while the service runs, and twice.

    Example: ai-admin migrate
    """
    import psycopg
    from sqlalchemy.exc import SQLAlchemyError

    from ai_admin import migrate as migrations
    from ai_admin.config import ConfigError, load_settings
    from ai_admin.errors import ApiError

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
    from ai_admin.access.bootstrap import make_owner as make
    from ai_admin.config import ConfigError, load_settings
    from ai_admin.errors import ApiError

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
    from ai_admin.access import identities
    from ai_admin.access.actors import service
    from ai_admin.config import ConfigError, load_settings
    from ai_admin.database import Database
    from ai_admin.errors import ApiError

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
    from ai_admin.config import ConfigError, load_settings
    from ai_admin.database import fault_of_database
    from ai_admin.server import serve as serve_settings

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
