"""`ai-admin keys`: API keys, over HTTP. A new key is printed once, alone on standard output."""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from ai_admin.access.scopes import Scope
from ai_admin.client.api import DEFAULT_URL, Api, AsJson, KeyFile, Url, UserName, pair, read_key, server, user_path
from ai_admin.keys.values import KeyOrder
from ai_admin.terminal import Exit, failure, print_json, print_table, stderr

app = typer.Typer()
_ALL_KEYS = ("ai", "admin", "keys")
_COLUMNS = ("name", "lastFour", "scopes", "models", "expiresAt", "lastUsedAt", "id")

Key = Annotated[str, typer.Argument(metavar="KEY", help="The key's id, or its last four characters.")]


@app.command("list")
def list_keys(
    user: Annotated[str | None, typer.Argument(metavar="USER", help="The user's tag, email address or id.")] = None,
    all_users: Annotated[bool, typer.Option("--all-users", help="Keys of all users, newest first.")] = False,
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--where",
            metavar="NAME=VALUE",
            help="With --all-users, a filter such as scope=secrets:reveal or expiresAt[lt]=2027-01-31T00:00:00Z; "
            "may be repeated.",
        ),
    ] = None,
    sort: Annotated[KeyOrder, typer.Option(help="With --all-users, the order; - descends.")] = KeyOrder.CREATED_AT_DESC,
    limit: Annotated[int, typer.Option(min=1, help="With --all-users, keys at most; --all for all.")] = 50,
    everything: Annotated[bool, typer.Option("--all", help="With --all-users, all of them.")] = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
) -> None:
    """List the keys of a user, or of all users; the keys themselves are shown nowhere.

    Example: ai-admin keys list ada

    Example: ai-admin keys list --all-users --where neverExpires=true --where scope=secrets:reveal
    """
    if all_users == (user is not None):
        raise failure("name a user, or ask for --all-users", Exit.TROUBLE)
    if where and not all_users:
        raise failure("--where goes with --all-users", Exit.TROUBLE)
    query = [*(pair(text, "--where") for text in where or ()), ("sort", sort.value)]
    with server(url, key_file) as api:
        if user is not None:
            _print(_keys(api, api.user(user)), _COLUMNS, as_json)
            return
        # One more than is shown tells whether there are more.
        keys = api.listed(_ALL_KEYS, query, None if everything else limit + 1)
        _print(keys if everything else islice(keys, limit), ("userTag", "userId", *_COLUMNS), as_json)
        if next(keys, None) is not None:
            stderr.print(f"there are more than these {limit:,}: --limit, or --all")


@app.command("report-leak")
def report_leak(
    file: Annotated[
        Path | None, typer.Option("--file", help="File with the leaked key; else standard input has it.")
    ] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
) -> None:
    """Revoke a key that has leaked, found by its text, whoever its user is.

    The text is read from a file or from standard input, never from the command line, which other processes see.

    Example: ai-admin keys report-leak --file leaked.key
    """
    text = read_key(file, "--file", "Leaked key")
    with server(url, key_file) as api:
        found = api.ask("POST", (*_ALL_KEYS, "report-leak"), body={"key": text})
    if as_json:
        print_json(found)
    else:
        done = "revoked" if found["revoked"] else f"had stopped working on {found['endedAt']}"
        typer.echo(f"key {found['keyId']} of user {found['userId']} {done}")


@app.command()
def create(
    user: UserName,
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    scopes: Annotated[
        list[Scope] | None, typer.Option("--scope", help="What it may be used for, if not all; may be repeated.")
    ] = None,
    models: Annotated[
        list[str] | None, typer.Option("--model", help="A pattern of models it may call, if not all; may be repeated.")
    ] = None,
    expires: Annotated[
        str | None, typer.Option(help="When it ends: after a day such as 2027-01-31 here, or at an RFC 3339 time.")
    ] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
) -> None:
    """Make a key and print it: this once, and nothing else.

    Example: ai-admin keys create nightly-eval "CI of search" --expires 2027-01-31 > search.key
    """
    body: dict[str, Any] = {
        "name": name,
        "scopes": [scope.value for scope in scopes] if scopes else None,
        "models": models or None,
        "expiresAt": None if expires is None else _end(expires),
    }
    with server(url, key_file) as api:
        _show(api.create(user_path(api.user(user), "keys"), body), as_json)


@app.command()
def rotate(
    user: UserName,
    key: Key,
    overlap: Annotated[int, typer.Option(min=0, help="Seconds for which the present value still works.")] = 3600,
    expires: Annotated[
        str | None,
        typer.Option(help="A new end, as in `create`, or `never`; without it the key's end stays."),
    ] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
) -> None:
    """Give a key a new value and print it. The key keeps its id, name, limits and end.

    Example: ai-admin keys rotate nightly-eval Yq3Z --overlap 86400 > search.key
    """
    body: dict[str, Any] = {"overlapSeconds": overlap}
    if expires is not None:
        body["expiresAt"] = None if expires == "never" else _end(expires)
    with server(url, key_file) as api:
        owner = api.user(user)
        _show(api.create(user_path(owner, "keys", _key(api, owner, key)["id"], "rotate"), body), as_json)


@app.command()
def revoke(user: UserName, key: Key, url: Url = DEFAULT_URL, key_file: KeyFile = None) -> None:
    """End a key at once.

    Example: ai-admin keys revoke nightly-eval Yq3Z
    """
    with server(url, key_file) as api:
        owner = api.user(user)
        api.ask("DELETE", user_path(owner, "keys", _key(api, owner, key)["id"]))


def _end(text: str) -> str:
    """Return the end of a day of this machine's time zone as RFC 3339 has it; any other text as it is."""
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
        return text
    try:
        after = datetime.strptime(text, "%Y-%m-%d") + timedelta(days=1)  # noqa: DTZ007  a day of this time zone
        return after.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError):
        raise failure(f"--expires {text}: there is no such day", Exit.TROUBLE) from None


def _print(keys: Iterable[dict[str, Any]], columns: Sequence[str], as_json: bool) -> None:
    if as_json:
        for key in keys:
            print_json(key)
    else:
        print_table(columns, keys)


def _keys(api: Api, user: Mapping[str, Any]) -> list[dict[str, Any]]:
    keys: list[dict[str, Any]] = api.ask("GET", user_path(user, "keys"))["data"]
    return keys


def _key(api: Api, user: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The key of the user with this id or these last characters."""
    found = [key for key in _keys(api, user) if name in {key["id"], key["lastFour"]}]
    if len(found) != 1:
        problem = "no key" if not found else f"{len(found)} keys"
        raise failure(f"{user['tag']} has {problem} {name}; `ai-admin keys list` shows the ids", Exit.REFUSED)
    return found[0]


def _show(key: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(key)
    else:
        typer.echo(key["key"])
        stderr.print(f"id {key['id']}, expires {key['expiresAt'] or 'never'}; the key is not shown again")
