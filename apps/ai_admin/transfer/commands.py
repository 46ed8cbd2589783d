"""`ai-admin users`: users in from files, and out to files, on the database of the settings."""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Annotated
from urllib.parse import urlencode

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from ai_admin.access.actors import service
from ai_admin.config import ConfigError, Settings, load_settings
from ai_admin.errors import ApiError, RequestInvalid
from ai_admin.http.query import read_pairs
from ai_admin.terminal import Exit, Root, failure, rate, stderr, unread
from ai_admin.transfer import formats, importing
from ai_admin.transfer.encodings import ENCODINGS, in_utf_8
from ai_admin.transfer.exporting import WRITERS, export_users
from ai_admin.transfer.formats import FORMATS
from ai_admin.transfer.importing import ImportElsewhere, Outcome, import_users
from ai_admin.transfer.rejects import Reject
from ai_admin.transfer.tables import FileInvalid
from ai_admin.users.schemas import UserFilter

app = typer.Typer()
_STDIN, _REJECTS = Path("-"), ".rejects.ndjson"
_SUFFIXES = {".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson"}

ImportFormat = Enum("ImportFormat", {name: name for name in FORMATS}, type=str)  # type: ignore[misc]
FileEncoding = Enum("FileEncoding", {name: name for name in ENCODINGS}, type=str)  # type: ignore[misc]
ExportFormat = Enum("ExportFormat", {name: name for name in WRITERS}, type=str)  # type: ignore[misc]


class Match(str, Enum):
    """By what a user of the file is found in the directory."""

    TAG = "tag"
    EMAIL = "email"


@contextmanager
def _told() -> Iterator[None]:
    """Errors in one line and exit code 2; without a word where whoever read standard output has left."""
    try:
        yield
    except BrokenPipeError:
        raise unread() from None
    except (ConfigError, FileInvalid, ImportElsewhere, OSError) as error:
        raise failure(error, Exit.TROUBLE) from None
    except RequestInvalid as error:
        faults = (f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.details or ())
        raise failure("; ".join(faults), Exit.TROUBLE) from None
    except ApiError as error:
        raise failure(" ".join(error.detail.split()), Exit.TROUBLE) from None


@app.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(help="File with the users; - is standard input.")],
    form: Annotated[
        ImportFormat | None, typer.Option("--format", help="Format of the file; by its suffix if not given.")
    ] = None,
    match: Annotated[
        Match | None, typer.Option(help="Find users by this; by tag if not given, other systems' users by email.")
    ] = None,
    encoding: Annotated[FileEncoding, typer.Option(help="Encoding of the file.")] = FileEncoding["utf-8"],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change, and change nothing.")] = False,
    rejects: Annotated[
        Path | None,
        typer.Option(
            help="File for the rows that are refused; if not given FILE.rejects.ndjson, or users.rejects.ndjson here."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    root: Root = None,
) -> None:
    """Bring the directory to what a file says: create users who are not there, and change the others where they differ.

    An import that was interrupted or killed goes on where it stopped when the same command is given again.

    Exit 0 if all rows were taken, 1 if some were refused, 2 on trouble, 130 if interrupted.

    Example: ai-admin users import users.csv --dry-run

    Example: ai-admin users import realm.json --format keycloak

    Example: ai-admin users import users.csv --encoding cp1252

    Example: zcat users.csv.gz | ai-admin users import - --format csv
    """
    with _told():
        settings = load_settings(root)
        chosen = form.value if form else _SUFFIXES.get(file.suffix.lower())
        if chosen is None:
            raise failure(f"the format of {file.name} is not known; give it with --format", Exit.TROUBLE)
        report = _no_link(rejects or _report_beside(file))
        with _source(file) as given, in_utf_8(given, encoding.value) as source:
            outcome = _imported(settings, source, chosen, match.value if match else None, dry_run=dry_run)
        if outcome.summary.rejected:
            _write_rejects(report, outcome.rejects(settings))
    _report(outcome, dry_run, as_json)
    if outcome.summary.rejected:
        refused = outcome.summary.rejected
        told = "1 row was refused" if refused == 1 else f"{refused:,} rows were refused"
        raise failure(f"{told}; {report} says why", Exit.REFUSED)


def _imported(
    settings: Settings, source: IO[bytes], form: str, match: formats.Match | None, *, dry_run: bool
) -> Outcome:
    """What comes of the import, which is told while it runs: octets, users a second, time left."""
    started: dict[str, int] = {}
    with _progress() as progress:
        task = progress.add_task("Checking" if dry_run else "Importing", total=source.seek(0, os.SEEK_END), rate="")

        def tell(now: importing.Progress) -> None:
            elapsed = progress.tasks[0].elapsed
            speed = (now.summary.records - started.setdefault("at", now.summary.records)) / (elapsed or 1)
            progress.update(task, completed=now.position, rate=rate(speed, " users"))

        by = service("users import")
        try:
            return import_users(settings, by, source, form, match=match, dry_run=dry_run, progress=tell)
        except KeyboardInterrupt:
            progress.stop()
            raise failure("interrupted; the same command goes on where this one stopped", Exit.INTERRUPTED) from None


def _write_rejects(path: Path, rejects: Iterator[Reject]) -> None:
    with _private(path) as target:
        target.writelines(json.dumps({"line": reject.line, **reject.problem}).encode() + b"\n" for reject in rejects)


def _report(outcome: Outcome, dry_run: bool, as_json: bool) -> None:
    summary = asdict(outcome.summary)
    if as_json:
        typer.echo(json.dumps({"dryRun": dry_run, "resumedAt": outcome.resumed_at, **summary}))
        return
    told = ", ".join(f"{number:,} {name}" for name, number in summary.items() if name != "records")
    resumed = f", resumed behind record {outcome.resumed_at:,}" if outcome.resumed_at else ""
    records = "1 record" if summary["records"] == 1 else f"{summary['records']:,} records"
    typer.echo(f"{records}{' (dry run)' if dry_run else ''}: {told}{resumed}")


@app.command()
def export(
    output: Annotated[
        Path | None,
        typer.Option("--output", help="File to write, which appears when it is whole; else standard output."),
    ] = None,
    form: Annotated[ExportFormat | None, typer.Option("--format", help="ndjson if not given.")] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--where", metavar="NAME=VALUE", help="A filter of the list, such as role=admin; may be repeated."
        ),
    ] = None,
    root: Root = None,
) -> None:
    """Write the users, as they are at one moment, in the order of their ids. Deleted users only with status=deleted.

    Exit 0 if all were written, 2 on trouble.

    Example: ai-admin users export --format csv --output users.csv

    Example: ai-admin users export --where role=admin --where 'createdAt[gte]=2026-01-01T00:00:00Z'
    """
    with _told():
        settings = load_settings(root)
        if output is not None:
            _no_link(output)
        pairs = [(name, value) for name, _, value in (each.partition("=") for each in where or ())]
        asked = read_pairs(UserFilter, urlencode(pairs), "where")
        chunks = export_users(settings, service("users export"), asked, form.value if form else "ndjson")
        if output is None:
            for chunk in chunks:
                sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
        else:
            with _private(output) as target:
                target.writelines(chunks)


@contextmanager
def _source(file: Path) -> Iterator[IO[bytes]]:
    """The file. What comes through a pipe is put into a temporary one first: an import reads it more than once."""
    with ExitStack() as stack:
        given = typer.get_binary_stream("stdin") if file == _STDIN else stack.enter_context(file.open("rb"))
        if given.seekable():
            yield given
            return
        whole = stack.enter_context(TemporaryFile())
        shutil.copyfileobj(given, whole)
        yield whole


def _report_beside(file: Path) -> Path:
    """Where the rejects go: beside the file, or into this folder where it is no file on a disk."""
    report = file.with_name(file.name + _REJECTS) if file.is_file() else Path("users" + _REJECTS)
    if not os.access(report.parent, os.W_OK):
        told = f"rows that are refused cannot be written to {report}; name another file with --rejects"
        raise failure(told, Exit.TROUBLE)
    return report


def _no_link(path: Path) -> Path:
    """The path, where it is no link to a file: to put a file in its place, or to write where it leads, may be wrong.

    Links to pipes and devices are as good as these: /dev/stdout is one, unless standard output is a file.
    """
    if path.is_symlink() and (path.is_file() or not path.exists()):
        told = f"{path} is a link, which is neither replaced nor followed; name the file itself, or use standard output"
        raise failure(told, Exit.TROUBLE)
    return path


@contextmanager
def _private(path: Path) -> Iterator[IO[bytes]]:
    """A file that only this account may read, in its place once it is whole; a pipe or device as it is."""
    if path.exists() and not path.is_file():
        with path.open("wb") as given:
            yield given
        return
    part = path.with_name(path.name + ".part")
    # What is there is left over, or somebody else's: it is not written into, nor what it may lead to.
    part.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=stderr,
    )
