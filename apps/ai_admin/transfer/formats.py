"""The files that users come from, read as streams: each gives one record after the other, whatever their number.

A record that cannot be read is given as what is wrong with it; those after it are read all the same. What a file of
another system says of passwords is never looked at. Such a file decides about role, kind and tag of new users alone.
"""

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any, Literal, NamedTuple

import ijson
import orjson

# Longer lines are no users; the largest a user can be is some ten times 16 KiB of escapes.
LONGEST_LINE = 1 << 20
Match = Literal["tag", "email"]
# What the service sets itself: an export has it, and an import leaves it alone.
READ_ONLY = ("id", "createdAt", "updatedAt", "deletedAt", "version")
WRITTEN = ("tag", "email", "name", "kind", "role", "status", "models", "attributes")
COLUMNS = ("id", *WRITTEN, "createdAt", "updatedAt", "deletedAt", "version")
# What a spreadsheet would take for a formula (OWASP, CSV Injection), and what an export has put before it.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_NO_TAG = re.compile(r"[^a-z0-9._-]+")


class FileInvalid(Exception):
    """The file is not of this format: nothing of it can be read, or nothing more."""


class Record(NamedTuple):
    """One user of a file: where (a line from 1; in a JSON document the number of the user), and what it says.

    `members` are those of a user as the API takes them, or their JSON; a string says why there are none.
    """

    line: int
    members: dict[str, Any] | bytes | str


@dataclass(frozen=True)
class Format:
    """A format: how it is read, by what its users are found in the directory, and what it says of new users alone."""

    read: Callable[[IO[bytes]], Iterator[Record]]
    match: Match
    only_new: frozenset[str] = frozenset()
    # One JSON document, which only its end shows to be whole.
    is_document: bool = False


def read_ndjson(file: IO[bytes]) -> Iterator[Record]:
    """A user a line, as the API takes and gives it (https://github.com/ndjson/ndjson-spec); empty lines are none."""
    for number, line in _lines(file):
        if line is None:
            yield Record(number, f"The line is longer than {LONGEST_LINE} bytes")
        elif line.strip():
            yield Record(number, line)


def read_csv(file: IO[bytes]) -> Iterator[Record]:
    """Comma-separated values (RFC 4180) in UTF-8, with the members of a user as names of the columns.

    `models` are separated by blanks, `attributes` are a JSON object. An empty cell says nothing.
    """
    return _read_table(file, {name: name for name in COLUMNS}, _from_cells)


def read_open_webui(file: IO[bytes]) -> Iterator[Record]:
    """Open WebUI's CSV of users: Name, Email, Password, Role (its template, backend/open_webui/static/user-import.csv).

    Roles are admin, user and pending in any case, blanks around a cell are none of it (AddUserModal.svelte there).
    `pending` becomes suspended; passwords are not read.
    """
    columns = {name: name for name in ("id", "name", "email", "password", "role")}
    return _read_table(file, columns, _from_open_webui)


def read_keycloak(file: IO[bytes]) -> Iterator[Record]:
    """The `users` of a realm export of Keycloak (`kc.sh export`; UserRepresentation of its Admin REST API).

    A disabled user becomes suspended, the account of a client a service; realm roles give nothing here.
    """
    return _read_document(file, "users.item", _from_keycloak)


def read_litellm(file: IO[bytes]) -> Iterator[Record]:
    """The answer of LiteLLM's `GET /user/list` (docs.litellm.ai, Internal User management; LitellmUserRoles).

    A proxy_admin becomes an admin and a proxy_admin_viewer an auditor. Models are what `can_user_call_model` there
    (litellm/proxy/auth/auth_checks.py) makes of them: an empty list is all, `no-default-models` in it is none.
    """
    return _read_document(file, "users.item", _from_litellm)


def read_openai(file: IO[bytes]) -> Iterator[Record]:
    """The answer of OpenAI's `GET /v1/organization/users` (developers.openai.com, List users).

    An owner becomes an admin, a reader a member.
    """
    return _read_document(file, "data.item", _from_openai)


_FOREIGN = frozenset({"tag", "role", "kind"})
FORMATS: Mapping[str, Format] = {
    "csv": Format(read_csv, "tag"),
    "ndjson": Format(read_ndjson, "tag"),
    "keycloak": Format(read_keycloak, "email", _FOREIGN, is_document=True),
    "litellm": Format(read_litellm, "email", _FOREIGN, is_document=True),
    "openai": Format(read_openai, "email", _FOREIGN, is_document=True),
    "open-webui": Format(read_open_webui, "email", _FOREIGN),
}


# Cells, for both directions


def to_cells(user: Mapping[str, Any]) -> list[str]:
    """The row of a user in a CSV file; `read_csv` gives the same user back."""
    return [_to_cell(name, user[name]) for name in COLUMNS]


def _to_cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name == "models":
        return _quoted(" ".join(value))
    if name == "attributes":
        return orjson.dumps(value).decode() if value else ""
    if name.endswith("At"):
        return orjson.dumps(value, option=orjson.OPT_UTC_Z).decode().strip('"')
    return _quoted(str(value))


def _quoted(cell: str) -> str:
    return f"'{cell}" if _FORMULA.match(cell) else cell


def _unquoted(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def _from_cells(cells: Mapping[str, str]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name in WRITTEN:
        cell = cells.get(name)
        if not cell:
            continue
        if name == "attributes":
            members[name] = orjson.loads(cell)
        elif name == "models":
            members[name] = _unquoted(cell).split()
        else:
            members[name] = _unquoted(cell)
    return members


# What other systems say


def _tag(text: object) -> str:
    """A tag made of a name that need not have its form: what a tag cannot have becomes a hyphen."""
    return _NO_TAG.sub("-", str(text or "").lower()).lstrip("._-")[:63]


def _given(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value not in (None, "")}


def _from_open_webui(cells: Mapping[str, str]) -> dict[str, Any]:
    email, role = cells.get("email", "").strip(), cells.get("role", "").strip().lower()
    if role not in {"", "admin", "user", "pending"}:
        raise ValueError("role is none of admin, user and pending")
    return _given(
        {
            "tag": _tag(email),
            "email": email,
            "name": cells.get("name", "").strip(),
            "role": "admin" if role == "admin" else "member",
            "status": "suspended" if role == "pending" else "active",
        }
    )


def _from_keycloak(user: Mapping[str, Any]) -> dict[str, Any]:
    names = (str(user.get(part) or "").strip() for part in ("firstName", "lastName"))
    attributes: dict[str, Any] = {
        key: values[0] if isinstance(values, list) and len(values) == 1 else values
        for key, values in (user.get("attributes") or {}).items()
    }
    return _given(
        {
            "tag": _tag(user.get("username")),
            "email": user.get("email"),
            "name": " ".join(filter(None, names)),
            "kind": "service" if user.get("serviceAccountClientId") else "human",
            "status": "active" if user.get("enabled", True) else "suspended",
            "attributes": attributes | _given({"keycloakId": user.get("id")}),
        }
    )


_LITELLM_ROLES = {"proxy_admin": "admin", "proxy_admin_viewer": "auditor"}


def _from_litellm(user: Mapping[str, Any]) -> dict[str, Any]:
    named = user.get("models") or ["all-proxy-models"]
    # Whatever stands beside it: such a user calls models through a team alone.
    allowed = [] if "no-default-models" in named else named
    models = ["*" if name == "all-proxy-models" else name for name in allowed]
    email = user.get("user_email")
    return _given(
        {
            "tag": _tag(user.get("user_id")),
            "email": email,
            "name": user.get("user_alias"),
            "kind": "human" if email else "service",
            "role": _LITELLM_ROLES.get(user.get("user_role") or "", "member"),
            "models": models,
            "attributes": (user.get("metadata") or {}) | _given({"litellmId": user.get("user_id")}),
        }
    )


def _from_openai(user: Mapping[str, Any]) -> dict[str, Any]:
    return _given(
        {
            "tag": _tag(user.get("email")),
            "email": user.get("email"),
            "name": user.get("name"),
            "role": "admin" if user.get("role") == "owner" else "member",
            "attributes": _given({"openaiId": user.get("id")}),
        }
    )


# Reading


def _lines(file: IO[bytes]) -> Iterator[tuple[int, bytes | None]]:
    """The lines with their numbers; None for one that is too long, whose rest is passed over."""
    number = 0
    while line := file.readline(LONGEST_LINE + 1):
        number += 1
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if len(line) <= LONGEST_LINE:
            yield number, line
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(LONGEST_LINE)
        yield number, None


def _read_table(
    file: IO[bytes], names: Mapping[str, str], members: Callable[[Mapping[str, str]], dict[str, Any]]
) -> Iterator[Record]:
    # A byte that is no UTF-8 makes a letter that no member takes, and so one bad row.
    texts = ("" if line is None else line.decode("utf-8", "surrogateescape") for _, line in _lines(file))
    table = csv.reader(texts)
    header = _header(next(table, None), names)
    while True:
        line = table.line_num + 1
        try:
            cells = next(table)
        except StopIteration:
            return
        except csv.Error as error:
            yield Record(line, f"The row cannot be read: {error}")
            continue
        if not cells:
            continue
        if len(cells) != len(header):
            yield Record(line, f"The row has {len(cells)} cells, and the header {len(header)}")
            continue
        yield Record(line, _converted(members, dict(zip(header, cells, strict=True))))


def _header(cells: list[str] | None, names: Mapping[str, str]) -> list[str]:
    if cells is None:
        raise FileInvalid("The file is empty; the first line names the columns")
    if set(names) == set(COLUMNS):
        header = [cell.strip() for cell in cells]
    else:
        header = [cell.strip().lower() for cell in cells]
    unknown = [cell[:50] for cell in header if cell not in names]
    if unknown:
        raise FileInvalid(f"There is no column {', '.join(map(repr, unknown))}; there are {', '.join(names)}")
    if len(set(header)) != len(header):
        raise FileInvalid("A column is there twice")
    return header


def _read_document(
    file: IO[bytes], place: str, members: Callable[[Mapping[str, Any]], dict[str, Any]]
) -> Iterator[Record]:
    found = 0
    try:
        # Numbers as floats: jsonb and the API keep no more of them either.
        for found, user in enumerate(ijson.items(file, place, use_float=True), 1):
            if isinstance(user, dict):
                yield Record(found, _converted(members, user))
            else:
                yield Record(found, "Not an object")
    except ijson.JSONError as error:
        raise FileInvalid(f"The document is no JSON after {found} users: {error}") from None
    if not found:
        raise FileInvalid(f"The document has no users at {place.removesuffix('.item')}")


def _converted(members: Callable[[Any], dict[str, Any]], source: Mapping[str, Any]) -> dict[str, Any] | str:
    try:
        return members(source)
    except (ValueError, TypeError, AttributeError, json.JSONDecodeError) as error:
        # Values are left out: the message of a decoder says where, and of which kind.
        return f"The row cannot be read: {type(error).__name__}" if not isinstance(error, ValueError) else str(error)
