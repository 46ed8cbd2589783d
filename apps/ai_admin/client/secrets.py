"""`ai-admin secrets`: a user's credentials for providers, over HTTP. Values come from a file or standard input."""

import base64
from pathlib import Path
from typing import Annotated

import typer

from ai_admin.client.api import DEFAULT_URL, AsJson, KeyFile, Url, UserName, read_bytes, server, text_of, user_path
from ai_admin.terminal import print_json, print_table, show, stderr

app = typer.Typer()
_COLUMNS = ("name", "provider", "lastFour", "version", "rotatedAt", "usedAt")
_VERSION_COLUMNS = ("version", "provider", "lastFour", "createdAt", "endedAt")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The credential's name.")]


@app.command("list")
def list_secrets(user: UserName, as_json: AsJson = False, url: Url = DEFAULT_URL, key_file: KeyFile = None) -> None:
    """List the credentials of a user, without their values.

    Example: ai-admin secrets list ada
    """
    with server(url, key_file) as api:
        secrets = api.ask("GET", user_path(api.user(user), "secrets"))["data"]
    if as_json:
        for secret in secrets:
            print_json(secret)
    else:
        print_table(_COLUMNS, secrets)


@app.command("set")
def set_secret(
    user: UserName,
    name: Name,
    provider: Annotated[str, typer.Option(help="Where the credential is good, such as openai.")],
    value_file: Annotated[Path | None, typer.Option(help="File with the value; else standard input.")] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
) -> None:
    """Set a credential, or its next version. The value is read from a file or standard input, never from arguments.

    A file's bytes are stored as they are. From standard input, a single line is stored without its line break.

    Example: ai-admin secrets set ada openai --provider openai --value-file openai.key
    """
    content = read_bytes(value_file, "--value-file", "Value")
    text = text_of(content)
    value = {"valueBase64": base64.b64encode(content).decode("ascii")} if text is None else {"value": text}
    if value_file and content.endswith(b"\n") and content.count(b"\n") == 1:
        stderr.print("note: the value ends with a line break, as the file does")
    with server(url, key_file) as api:
        body = {"provider": provider, **value}
        secret = api.ask("PUT", user_path(api.user(user), "secrets", name), body=body)
    show(secret, as_json)


@app.command()
def reveal(
    user: UserName,
    name: Name,
    reason: Annotated[str, typer.Option(help="Why, for the audit log.")],
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
) -> None:
    """Print the value of a credential, and nothing else. The audit log keeps who asked, and why.

    Example: ai-admin secrets reveal ada openai --reason "ticket 4711"
    """
    with server(url, key_file) as api:
        secret = api.ask("POST", user_path(api.user(user), "secrets", name, "reveal"), body={"reason": reason})
    if as_json:
        print_json(secret)
    elif "value" in secret:
        typer.echo(secret["value"].encode(), nl=False)
    else:
        typer.echo(base64.b64decode(secret["valueBase64"]), nl=False)


@app.command()
def remove(user: UserName, name: Name, url: Url = DEFAULT_URL, key_file: KeyFile = None) -> None:
    """Remove a credential; its last version can be restored for a while.

    Example: ai-admin secrets remove ada openai
    """
    with server(url, key_file) as api:
        api.ask("DELETE", user_path(api.user(user), "secrets", name))


@app.command()
def versions(
    user: UserName, name: Name, as_json: AsJson = False, url: Url = DEFAULT_URL, key_file: KeyFile = None
) -> None:
    """List the versions of a credential that are kept.

    Example: ai-admin secrets versions ada openai
    """
    with server(url, key_file) as api:
        found = api.ask("GET", user_path(api.user(user), "secrets", name, "versions"))["data"]
    if as_json:
        for version in found:
            print_json(version)
    else:
        print_table(_VERSION_COLUMNS, found)


@app.command()
def restore(
    user: UserName,
    name: Name,
    version: Annotated[int, typer.Argument(min=1, help="The version to bring back.")],
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
) -> None:
    """Put an earlier version of a credential into force again, as its newest.

    Example: ai-admin secrets restore ada openai 2
    """
    with server(url, key_file) as api:
        secret = api.ask("POST", user_path(api.user(user), "secrets", name, "restore"), body={"version": version})
    show(secret, as_json)
