"""`ai-admin deploy`: stages rendered and compared."""

import shlex
from pathlib import Path
from typing import Annotated

import typer
from pydantic import SecretStr

from ai_admin.config import ConfigError
from ai_admin.deploy.profiles import Profile, schema_text
from ai_admin.deploy.rendering import (
    SECRET_KEYS,
    DeployError,
    check_secret,
    difference,
    pack,
    read_stage,
    render,
    write,
)
from ai_admin.terminal import Exit, failure, stderr

app = typer.Typer(help="Render and compare the stages of .fission/*.json.", no_args_is_help=True)

Project = Annotated[
    Path, typer.Option("--project", help="The project's folder, which holds .fission/, specs/ and apps/.")
]
StageName = Annotated[str, typer.Argument(metavar="STAGE", help="local, dev, test, staging or production.")]


@app.command("render")
def render_stage(
    stage: StageName,
    out: Annotated[Path, typer.Option(help="Folder to make; an earlier rendering in it is replaced.")],
    secret_file: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=PATH", help="File with the value of a key of the Secret; may be repeated."),
    ] = None,
    secrets_dir: Annotated[
        Path | None, typer.Option(help="Folder with a file for each key of the Secret; --secret-file goes before.")
    ] = None,
    prompt: Annotated[
        bool, typer.Option("--prompt", help="Ask, without showing it, for what no file gives; empty takes the default.")
    ] = False,
    without_secret: Annotated[
        bool, typer.Option("--without-secret", help="Render no Secret, whatever else is given: the cluster has it.")
    ] = False,
    project: Project = Path(),
) -> None:
    """Write what a stage is deployed with: OUT/specs and OUT/ai-work.zip for fission, OUT/manifests for kubectl.

    Example: ai-admin deploy render staging --out .local/deploy/staging --secrets-dir ~/secrets/staging
    """
    try:
        profile = read_stage(project, stage)
        secret = None if without_secret else _secret(secrets_dir, secret_file or [], prompt=prompt)
        write(render(project, profile, secret), pack(project), profile.stage, project, out)
    except (ConfigError, DeployError) as error:
        raise failure(error, Exit.TROUBLE) from None
    stderr.print(_next_steps(out, profile), soft_wrap=True, markup=False)


@app.command()
def diff(stage_a: StageName, stage_b: StageName, project: Project = Path()) -> None:
    """Show how the rendered files of two stages differ, the Secret left out; exit 0 if equal, 1 if not, 2 on trouble.

    Example: ai-admin deploy diff staging production
    """
    try:
        text = difference(project, read_stage(project, stage_a), read_stage(project, stage_b))
    except (ConfigError, DeployError) as error:
        raise failure(error, Exit.TROUBLE) from None
    if text:
        typer.echo(text, nl=False)
        raise typer.Exit(Exit.REFUSED)


@app.command()
def schema() -> None:
    """Print the JSON Schema of profiles, as .fission/profile.schema.json holds it for editors.

    Example: ai-admin deploy schema
    """
    typer.echo(schema_text(), nl=False)


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
