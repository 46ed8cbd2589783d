"""`ai-admin users`, over HTTP: find, get, create, change, delete and restore."""

from itertools import islice
from typing import Annotated, Any

import typer

from ai_admin.client.api import DEFAULT_URL, USERS, AsJson, KeyFile, Url, UserName, pair, server, user_path
from ai_admin.terminal import Exit, failure, print_json, print_table, show, stderr
from ai_admin.users.values import Kind, Role, UserOrder

app = typer.Typer()
_COLUMNS = ("tag", "name", "email", "kind", "role", "status", "id")

Tag = Annotated[str | None, typer.Option(help="Tag: unique, of small letters, digits, dots, hyphens and underscores.")]
Email = Annotated[str | None, typer.Option(help="Email address; an empty one takes that of a service away.")]
Name = Annotated[str | None, typer.Option(help="Name that is shown.")]
OfKind = Annotated[Kind | None, typer.Option(help="human or service.")]
OfRole = Annotated[Role | None, typer.Option(help="What the user may administer.")]
Models = Annotated[
    list[str] | None, typer.Option("--model", help="A pattern of models, such as gpt-5*; may be repeated.")
]
Attributes = Annotated[
    list[str] | None,
    typer.Option("--attribute", metavar="NAME=JSON", help='Such as team="research" or level=3; may be repeated.'),
]


@app.command("list")
def list_users(
    words: Annotated[str | None, typer.Argument(help="Words that tag, email or name begin with.")] = None,
    where: Annotated[
        list[str] | None,
        typer.Option("--where", metavar="NAME=VALUE", help="A filter, such as role=admin; may be repeated."),
    ] = None,
    sort: Annotated[UserOrder, typer.Option(help="The order; - descends.")] = UserOrder.CREATED_AT_DESC,
    limit: Annotated[int, typer.Option(min=1, help="Users at most; --all for all.")] = 50,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
) -> None:
    """Find users.

    Example: ai-admin users list "ada love" --where status=suspended --sort name
    """
    query = [pair(text, "--where") for text in where or ()]
    query += [("sort", sort.value), ("count", "none"), *([("q", words)] if words else [])]
    with server(url, key_file) as api:
        # One more than is shown tells whether there are more.
        users = api.listed(USERS, query, None if everything else limit + 1)
        shown = users if everything else islice(users, limit)
        if as_json:
            for user in shown:
                print_json(user)
        else:
            print_table(_COLUMNS, shown)
        if next(users, None) is not None:
            stderr.print(f"there are more than these {limit:,}: --limit, or --all")


@app.command()
def get(user: UserName, as_json: AsJson = False, url: Url = DEFAULT_URL, key_file: KeyFile = None) -> None:
    """Show a user.

    Example: ai-admin users get ada
    """
    with server(url, key_file) as api:
        show(api.user(user), as_json)


@app.command()
def create(
    tag: Annotated[str, typer.Argument(help="Tag: unique, of small letters, digits, dots, hyphens and underscores.")],
    email: Email = None,
    name: Name = None,
    kind: OfKind = None,
    role: OfRole = None,
    models: Models = None,
    attributes: Attributes = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
) -> None:
    """Create a user: a person with an email address, or a service.

    Example: ai-admin users create ada --email ada@example.com --name "Ada Lovelace" --model "gpt-5*"

    Example: ai-admin users create nightly-eval --kind service --attribute level=3
    """
    body = _members(email, name, kind, role, models, attributes) | {"tag": tag}
    with server(url, key_file) as api:
        show(api.create(USERS, body), as_json)


@app.command()
def update(
    user: UserName,
    tag: Tag = None,
    email: Email = None,
    name: Name = None,
    kind: OfKind = None,
    role: OfRole = None,
    status: Annotated[str | None, typer.Option(help="active or suspended.")] = None,
    models: Models = None,
    attributes: Attributes = None,
    version: Annotated[
        int | None, typer.Option("--if-version", min=1, help="Go ahead only if the user is still this version.")
    ] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
) -> None:
    """Change a user: what is given changes, the rest stays. Models are replaced; attributes are added or replaced.

    Example: ai-admin users update ada --status suspended

    Example: ai-admin users update ada --model "gpt-5*" --model "claude-*" --if-version 3
    """
    body = _members(email, name, kind, role, models, attributes)
    body |= {member: value for member, value in (("tag", tag), ("status", status)) if value is not None}
    if not body:
        raise failure("nothing to change: give at least one option", Exit.TROUBLE)
    with server(url, key_file) as api:
        found = api.user(user)
        # Attributes are replaced as a whole: those that are not named here are sent along, of the version they are of.
        if attributes:
            body["attributes"] = found["attributes"] | body["attributes"]
            version = version or found["version"]
        show(api.ask("PUT", user_path(found), body=body, headers=_if_version(version)), as_json)


@app.command()
def delete(
    user: UserName,
    purge: Annotated[bool, typer.Option("--purge", help="Erase the person for good; there is no way back.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
) -> None:
    """Delete a user, who loses access at once and can be restored; with --purge, erase them for good.

    Example: ai-admin users delete ada

    Example: ai-admin users delete 01890a5d-ac96-774b-bcce-b302099a8057 --purge --yes
    """
    with server(url, key_file) as api:
        found = api.user(user)
        if purge and not yes:
            typer.confirm(f"Erase {found['tag']} for good?", abort=True, err=True)
        api.ask("DELETE", user_path(found), query=[("purge", "true")] if purge else [])


@app.command()
def restore(user: UserName, as_json: AsJson = False, url: Url = DEFAULT_URL, key_file: KeyFile = None) -> None:
    """Bring a deleted user back; of several with one tag the one deleted last, unless the id is given.

    Example: ai-admin users restore ada
    """
    with server(url, key_file) as api:
        show(api.ask("PUT", user_path(api.user(user, deleted=True)), body={"status": "active"}), as_json)


def _members(
    email: str | None,
    name: str | None,
    kind: Kind | None,
    role: Role | None,
    models: list[str] | None,
    attributes: list[str] | None,
) -> dict[str, Any]:
    """The members of a user that were given."""
    given: dict[str, Any] = {
        "email": email or None,
        "name": name,
        "kind": kind and kind.value,
        "role": role and role.value,
        "models": models or None,
        "attributes": _attributes(attributes) if attributes else None,
    }
    return {
        member: value for member, value in given.items() if value is not None or (member == "email" and email == "")
    }


def _attributes(texts: list[str]) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    for name, value in map(_attribute, texts):
        if name in attributes:
            raise failure(f"--attribute {name}: give it once", Exit.TROUBLE)
        attributes[name] = value
    return attributes


def _attribute(text: str) -> tuple[str, Any]:
    from ai_admin.json_values import RepeatedMember, loads  # noqa: PLC0415  Pydantic is slow to import

    name, value = pair(text, "--attribute")
    try:
        return name, loads(value)
    except RepeatedMember as error:
        raise failure(f"--attribute {name}: {error}", Exit.TROUBLE) from None
    except ValueError:
        told = f'--attribute {text}: the value must be JSON, such as "research" with its quotes'
        raise failure(told, Exit.TROUBLE) from None


def _if_version(version: int | None) -> dict[str, str]:
    return {} if version is None else {"If-Match": f'"{version}"'}
