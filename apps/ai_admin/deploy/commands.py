"""`ai-admin deploy`: stages rendered, compared, applied and verified."""

import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from pydantic import SecretStr

from ai_admin.config import ConfigError
from ai_admin.deploy import verifying
from ai_admin.deploy.applying import Deployment, NotDone, documents
from ai_admin.deploy.profiles import Profile, schema_text
from ai_admin.deploy.rendering import (
    SECRET_KEYS,
    DeployError,
    check_secret,
    difference,
    pack,
    read_stage,
    render,
    update,
    write,
)
from ai_admin.deploy.tools import Tools
from ai_admin.terminal import Exit, failure, print_json, print_table, printable, stderr

# Seconds between two looks at the sources.
_FOLLOW_S = 1.0
app = typer.Typer()

Project = Annotated[
    Path, typer.Option("--project", help="The project's folder, which holds .fission/, specs/ and apps/.")
]
SecretFile = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=PATH", help="File with the value of a key of the Secret; may be repeated."),
]
SecretsFolder = Annotated[
    Path | None, typer.Option(help="Folder with a file for each key of the Secret; --secret-file goes before.")
]
Prompt = Annotated[
    bool, typer.Option("--prompt", help="Ask, without showing it, for what no file gives; empty takes the default.")
]
RouterUrl = Annotated[
    str | None,
    typer.Option(
        "--url", help="Address of Fission's router, or of the ingress in front; else the profile's PUBLIC_URL."
    ),
]
StageName = Annotated[str, typer.Argument(metavar="STAGE", help="local, dev, test, staging or production.")]


@app.command("render")
def render_stage(
    stage: StageName,
    out: Annotated[Path, typer.Option(help="Folder to make; an earlier rendering in it is replaced.")],
    secret_file: SecretFile = None,
    secrets_dir: SecretsFolder = None,
    prompt: Prompt = False,
    without_secret: Annotated[
        bool, typer.Option("--without-secret", help="Render no Secret, whatever else is given: the cluster has it.")
    ] = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on until Ctrl-C: render anew what changes, for `--watch` of fission.")
    ] = False,
    project: Project = Path(),
) -> None:
    """Write what a stage is deployed with: OUT/specs and OUT/ai-work.zip for fission, OUT/manifests for kubectl.

    Example: ai-admin deploy render staging --out .local/deploy/staging --secrets-dir ~/secrets/staging
    """
    with _told():
        profile = read_stage(project, stage)
        secret = None if without_secret else _secret(secrets_dir, secret_file or [], prompt=prompt)
        write(render(project, profile, secret), pack(project), profile.stage, project, out)
    stderr.print(_next_steps(out, profile), soft_wrap=True, markup=False)
    if follow:
        _follow(project, stage, secret, out)


@contextmanager
def _told() -> Iterator[None]:
    """Errors in one sentence and an exit code."""
    try:
        yield
    except NotDone as error:
        raise failure(error, Exit.REFUSED) from None
    except (ConfigError, DeployError) as error:
        raise failure(error, Exit.TROUBLE) from None


@app.command("apply")
def apply_stage(
    stage: StageName,
    url: RouterUrl = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to render into; .local/deploy/STAGE of the project otherwise.")
    ] = None,
    secret_file: SecretFile = None,
    secrets_dir: SecretsFolder = None,
    prompt: Prompt = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check, and show each command, but change nothing in the cluster.")
    ] = False,
    any_order: Annotated[
        bool, typer.Option("--any-order", help="Apply a Secret even where old pods cannot follow it, as after a leak.")
    ] = False,
    timeout: Annotated[float, typer.Option(min=1, help="Longest wait for the build, and for answers, in s.")] = 300,
    project: Project = Path(),
) -> None:
    """Deploy a stage to the cluster of kubectl's context: check, settings, package, functions, answers.

    Without values of the Secret, the one in the cluster stays. Exit 1 if a build fails or a function does not answer.

    Example: ai-admin deploy apply staging --url https://ai-admin-staging.example.com

    Example: ai-admin deploy apply staging --secrets-dir ~/secrets/staging --dry-run
    """
    untouched = step = "nothing was changed"
    try:
        with _told():
            profile = read_stage(project, stage)
            address = url or profile.config.public_url
            if not address:
                raise DeployError(
                    "give --url, the address of Fission's router; without an ingress: "
                    "`kubectl --namespace fission port-forward service/router 8888:80`, and http://127.0.0.1:8888"
                )
            _check_address(address)
            given = bool(secrets_dir or secret_file or prompt)
            secret = _secret(secrets_dir, secret_file or [], prompt=prompt) if given else None
            folder = out or project / ".local" / "deploy" / profile.stage
            write(render(project, profile, secret), pack(project), profile.stage, project, folder)
            deployment = Deployment(profile, folder, secret, Tools(_show, dry_run), _say, timeout, any_order)
            routes = verifying.routes_of(documents(folder / "specs"))
            _say(f"1. Checking the cluster for stage {profile.stage}, namespace {profile.namespace}")
            deployment.check()
            step = "settings were being applied; functions are as they were, and their pods may be replaced"
            _say("2. Settings")
            deployment.apply_settings()
            step = "the package may be built in the cluster; the functions are as they were"
            _say("3. Environment and package")
            deployment.apply_package()
            deployment.await_build()
            step = "some functions may be as they were, and others new"
            _say("4. Functions")
            deployment.apply_functions()
            step = "all is applied; whether each function answers is not known: ai-admin deploy verify"
            _say("5. Answers")
            deployment.await_answers(address, routes)
    except KeyboardInterrupt:
        step = untouched if dry_run else step
        raise failure(f"interrupted; {step}. The same command goes on from any state", Exit.INTERRUPTED) from None
    _say(untouched if dry_run else f"stage {profile.stage} is deployed")


@app.command()
def verify(
    url: Annotated[str, typer.Option("--url", help="Address of Fission's router, or of the ingress in front of it.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: an object a line for each function.")] = False,
    project: Project = Path(),
) -> None:
    """Ask every route through the router; print for each function whether it answers, its version and latency.

    Changes nothing and needs no key. Exit 0 if every function with a route answers as this version, 1 if one does not,
    2 if nothing answers at the address.

    Example: ai-admin deploy verify --url https://ai-admin-staging.example.com
    """
    with _told():
        routes = verifying.routes_of(documents(project / "specs"))
        if not routes:
            raise DeployError(f"{project / 'specs'} holds no functions; run this in the project's folder, or --project")
    try:
        with verifying.client(url) as client:
            reports = [verifying.ask(client, name, own) for name, own in sorted(routes.items())]
    except verifying.Unreachable as error:
        raise failure(f"{url} cannot be reached: {error}", Exit.TROUBLE) from None
    except ValueError as error:
        raise failure(f"--url {url}: {error}", Exit.TROUBLE) from None
    if as_json:
        for report in reports:
            print_json(report.described())
    else:
        print_table(("function", "state", "routes", "version", "ms", "fault"), [_row(report) for report in reports])
    failing = [report.function for report in reports if report.fault]
    if failing:
        raise failure(f"{len(failing)} of {len(reports)} functions fail: {', '.join(failing)}", Exit.REFUSED)


def _check_address(url: str) -> None:
    try:
        verifying.client(url).close()
    except ValueError as error:
        raise DeployError(f"--url {url}: {error}") from None


def _row(report: verifying.Report) -> dict[str, object]:
    return report.described() | {"ms": report.milliseconds or ""}


def _say(text: str) -> None:
    stderr.print(text, soft_wrap=True, markup=False, style="bold" if text[:1].isdigit() else None)


def _show(text: str) -> None:
    stderr.print(printable(text), soft_wrap=True, markup=False, style="dim")


@app.command()
def diff(stage_a: StageName, stage_b: StageName, project: Project = Path()) -> None:
    """Show how the rendered files of two stages differ, the Secret left out; exit 0 if equal, 1 if not, 2 on trouble.

    Example: ai-admin deploy diff staging production
    """
    with _told():
        text = difference(project, read_stage(project, stage_a), read_stage(project, stage_b))
    if text:
        typer.echo(text, nl=False)
        raise typer.Exit(Exit.REFUSED)


@app.command()
def schema() -> None:
    """Print the JSON Schema of profiles, as .fission/profile.schema.json holds it for editors.

    Example: ai-admin deploy schema
    """
    typer.echo(schema_text(), nl=False)


def _follow(project: Path, stage: str, secret: dict[str, str] | None, out: Path) -> None:
    """Render what changes until Ctrl-C. Where that fails, as in the middle of an edit, it is said and tried again."""
    _say(f"Following the sources; in another terminal: cd {shlex.quote(str(out))} && fission spec apply --watch")
    said = ""
    try:
        while True:
            time.sleep(_FOLLOW_S)
            try:
                changed = update(render(project, read_stage(project, stage), secret), pack(project), out)
                fault = ""
            except (ConfigError, DeployError) as error:
                changed, fault = [], str(error)
            if changed:
                _say(f"rendered {', '.join(changed)}")
            if fault and fault != said:
                stderr.print(f"not rendered: {fault}", soft_wrap=True, markup=False)
            said = fault
    except KeyboardInterrupt:
        raise typer.Exit(Exit.INTERRUPTED) from None


def _next_steps(out: Path, profile: Profile) -> str:
    return (
        f"Stage {profile.stage}, namespace {profile.namespace}, is in {out}. To apply it by hand:\n"
        f"  kubectl apply -f {shlex.quote(str(out / 'manifests'))}\n"
        f"  fission spec apply --specdir {shlex.quote(str(out / 'specs'))}"
    )


def _secret(folder: Path | None, options: list[str], *, prompt: bool) -> dict[str, str]:
    """The Secret's content, checked as the functions will check it. Raises `DeployError`."""
    values = {**_in_folder(folder), **_in_files(options)}
    if prompt:
        values |= _asked(values)
    check_secret(values)
    return values


def _in_folder(folder: Path | None) -> dict[str, str]:
    """The files of a folder by their names; a mounted Secret has hidden ones beside them."""
    if folder is None:
        return {}
    try:
        return {path.name: _value(path) for path in sorted(folder.iterdir()) if not path.name.startswith(".")}
    except OSError as error:
        raise DeployError(f"{folder}: {error.strerror}") from None


def _in_files(options: list[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for option in options:
        key, equals, path = option.partition("=")
        # The option is not quoted back: it may be a value that was taken for a path.
        if not equals or key not in SECRET_KEYS:
            raise DeployError(f"--secret-file takes KEY=PATH, and KEY is one of {', '.join(SECRET_KEYS)}")
        if key in values:
            raise DeployError(f"--secret-file gives {key} twice")
        values[key] = _value(Path(path), f"the file of {key}")
    return values


def _value(path: Path, name: str = "") -> str:
    """What a file holds, without its final line break, as the functions read it."""
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise DeployError(f"{name or path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DeployError(f"{name or path} is not text") from None


def _asked(given: dict[str, str]) -> dict[str, str]:
    """What is typed for each key that has no value yet; nothing typed leaves the key out."""
    values: dict[str, str] = {}
    for key, field in SECRET_KEYS.items():
        if key not in given:
            default = "required" if field.is_required() else _shown(field.default)
            typed = typer.prompt(f"{key} ({default})", default="", hide_input=True, show_default=False, err=True)
            values |= {key: typed} if typed else {}
    return values


def _shown(default: object) -> str:
    return "empty if not given" if isinstance(default, SecretStr) else f"{default} if not given"
