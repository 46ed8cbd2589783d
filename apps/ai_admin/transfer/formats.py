"""The files that users come from, read as streams: each gives one record after the other, whatever their number.

A record that cannot be read is given as what is wrong with it; those after it are read all the same. What a file of
another system says of passwords is never looked at. Such a file decides about role, kind and tag of new users alone.
"""

import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import IO, Any, Literal, NamedTuple

import orjson

from ai_admin.folding import fold
from ai_admin.json_values import loads
from ai_admin.transfer.documents import Complete, read_documents, require_last_page, require_readable, require_total
from ai_admin.transfer.tables import LONGEST_LINE, FileInvalid, Row, not_utf_8, read_lines, read_rows

Match = Literal["tag", "email"]
# What the service sets itself: an export has it, and an import leaves it alone.
READ_ONLY = ("id", "createdAt", "updatedAt", "deletedAt", "version")
WRITTEN = ("tag", "email", "name", "kind", "role", "status", "models", "attributes")
COLUMNS = ("id", *WRITTEN, "createdAt", "updatedAt", "deletedAt", "version")
# What a spreadsheet would take for a formula (OWASP, CSV Injection), and what an export has put before it.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_NO_TAG = re.compile(r"[^a-z0-9._-]+")


class Record(NamedTuple):
    """One user of a file: where (a line from 1; in a JSON document the number of the user), and what it says.

    `members` are those of a user as the API takes them, or their JSON; a string says why there are none.
    """

    line: int
    members: dict[str, Any] | bytes | str
    # Of another system's user: the name there, and the tags to take where the one in `members` is another user's.
    named: str | None = None
    other_tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Format:
    """A format: how it is read, by what its users are found in the directory, and what it says of new users alone."""

    read: Callable[[IO[bytes]], Iterator[Record]]
    match: Match
    only_new: frozenset[str] = frozenset()
    # Raises `FileInvalid` for a file that must not be begun: only its end shows that it is whole.
    require_whole: Callable[[IO[bytes]], None] | None = None
    # What the number of a record counts.
    unit: Literal["Lines", "Users"] = "Lines"


def read_ndjson(file: IO[bytes]) -> Iterator[Record]:
    """A user a line, as the API takes and gives it (https://github.com/ndjson/ndjson-spec); empty lines are none."""
    for number, line in enumerate(read_lines(file), 1):
        if line is None:
            yield Record(number, f"The line is longer than {LONGEST_LINE} bytes")
        elif line.strip():
            yield Record(number, line if _is_utf_8(line) else not_utf_8(line))


def _is_utf_8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def read_csv(file: IO[bytes]) -> Iterator[Record]:
    """Comma-separated values (RFC 4180) in UTF-8, with the members of a user as names of the columns.

    `models` are separated by blanks, `attributes` are a JSON object. An empty cell says nothing, and blanks around a
    cell are no part of it.
    """
    return _read_table(file, {name: name for name in COLUMNS}, _from_cells)


def read_open_webui(file: IO[bytes]) -> Iterator[Record]:
    """Open WebUI's CSV of users: Name, Email, Password, Role (its template, backend/open_webui/static/user-import.csv).

    Roles are admin, user and pending in any case (AddUserModal.svelte there).
    `pending` becomes suspended; passwords are not read.
    """
    columns = {name: name for name in ("id", "name", "email", "password", "role")}
    return map(_tagged, _read_table(file, columns, _from_open_webui))


def read_keycloak(file: IO[bytes]) -> Iterator[Record]:
    """The `users` of a realm export of Keycloak (`kc.sh export`), or the list that its Admin REST API answers.

    Both have its UserRepresentation. A disabled user becomes suspended, the account of a client a service; realm roles
    give nothing here.
    """
    return _read_users(file, "users", _from_keycloak)


def read_litellm(file: IO[bytes]) -> Iterator[Record]:
    """The answer of LiteLLM's `GET /user/list` (docs.litellm.ai, Internal User management; LitellmUserRoles).

    A proxy_admin becomes an admin and a proxy_admin_viewer an auditor; a user whom SCIM has deactivated
    (`metadata.scim_active`) is suspended. Models are what `can_user_call_model` there
    (litellm/proxy/auth/auth_checks.py) makes of them: an empty list is all, `no-default-models` in it is none.
    """
    return _read_users(file, "users", _from_litellm)


def read_openai(file: IO[bytes]) -> Iterator[Record]:
    """The answer of OpenAI's `GET /v1/organization/users` (developers.openai.com, List users).

    An owner becomes an admin, a reader a member, a service account a service, and who is banned is suspended.
    """
    return _read_users(file, "data", _from_openai)


def read_anthropic(file: IO[bytes]) -> Iterator[Record]:
    """The answer of Anthropic's `GET /v1/organizations/users` (docs.anthropic.com, Admin API, List Users).

    An admin becomes an admin, and all others members.
    """
    return _read_users(file, "data", _from_anthropic)


def _whole(read: Callable[[IO[bytes]], Iterator[Record]], *complete: Complete) -> Callable[[IO[bytes]], None]:
    """What raises `FileInvalid` where a file cannot be read to its end, and where pages are missing."""

    def require(file: IO[bytes]) -> None:
        file.seek(0)
        last = deque(read(file), maxlen=1)
        for check in complete:
            check(file, last[0].line)

    return require


_FOREIGN = frozenset({"tag", "role", "kind"})
FORMATS: Mapping[str, Format] = {
    "csv": Format(read_csv, "tag", require_whole=_whole(read_csv)),
    "ndjson": Format(read_ndjson, "tag"),
    "keycloak": Format(read_keycloak, "email", _FOREIGN, _whole(read_keycloak), "Users"),
    "litellm": Format(read_litellm, "email", _FOREIGN, _whole(read_litellm, require_total), "Users"),
    "anthropic": Format(read_anthropic, "email", _FOREIGN, _whole(read_anthropic, require_last_page), "Users"),
    "openai": Format(read_openai, "email", _FOREIGN, _whole(read_openai, require_last_page), "Users"),
    "open-webui": Format(read_open_webui, "email", _FOREIGN, _whole(read_open_webui)),
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
            members[name] = loads(cell)
        elif name == "models":
            members[name] = _unquoted(cell).split()
        else:
            members[name] = _unquoted(cell)
    return members


# What other systems say


def _tag(text: str) -> str:
    """A tag made of a name: diacritics are dropped, and what a tag cannot have becomes a hyphen.

    It is empty where the name has letters that are not Latin.
    """
    folded = fold(text)
    if any(letter.isalnum() and not letter.isascii() for letter in folded):
        return ""
    return _NO_TAG.sub("-", folded).lstrip("._-")[:63]


def _tags(name: str, email: object) -> Iterator[str]:
    """Tags for a user of another system, the best one first: of the name, of the address, and one of their own."""
    address = email if isinstance(email, str) else ""
    made = list(filter(None, dict.fromkeys((_tag(name), _tag(address)))))
    yield from made
    if name or address:
        digest = sha256((address or name).lower().encode("utf-8", "replace")).hexdigest()[:6]
        yield f"{(made or ['user'])[-1][:56]}-{digest}"


def _text(value: object) -> str:
    """A name or number as text; nothing is none. Lists and objects are none, and may be too deep to write."""
    if isinstance(value, list | dict):
        raise TypeError
    return str(value or "")


def _flag(value: object) -> bool:
    """A text would be true, whatever it says."""
    if not isinstance(value, bool | None):
        raise TypeError
    return bool(value)


# How systems say that a user is disabled.
_ON = ("enabled", "active", "is_active", "scim_active")
_OFF = ("disabled", "is_disabled", "blocked", "banned", "suspended", "deactivated", "deleted")
_OFF_AT = ("disabled_at", "blocked_at", "banned_at", "suspended_at", "deactivated_at", "deleted_at", "removed_at")
_OFF_STATUS = frozenset({"disabled", "inactive", "blocked", "banned", "suspended", "deactivated", "deleted", "pending"})


def _is_disabled(user: Mapping[str, Any]) -> bool:
    """Whether a member says so. Raises TypeError for a flag that is none: a text would be true, whatever it says."""
    return (
        any(user.get(name) is not None and not _flag(user[name]) for name in _ON)
        or any(_flag(user.get(name)) for name in _OFF)
        or any(user.get(name) for name in _OFF_AT)
        or _text(user.get("status")).lower() in _OFF_STATUS
    )


def _given(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value not in (None, "")}


def _from_open_webui(cells: Mapping[str, str]) -> dict[str, Any]:
    email, role = cells.get("email", ""), cells.get("role", "").lower()
    if role not in {"", "admin", "user", "pending"}:
        raise ValueError("role is none of admin, user and pending")
    return _given(
        {
            "tag": email,
            "email": email,
            "name": cells.get("name"),
            "role": "admin" if role == "admin" else "member",
            "status": "suspended" if role == "pending" else "active",
        }
    )


def _from_keycloak(user: Mapping[str, Any]) -> dict[str, Any]:
    names = (_text(user.get(part)).strip() for part in ("firstName", "lastName"))
    attributes: dict[str, Any] = {
        key: values[0] if isinstance(values, list) and len(values) == 1 else values
        for key, values in (user.get("attributes") or {}).items()
    }
    return _given(
        {
            "tag": _text(user.get("username")),
            "email": user.get("email"),
            "name": " ".join(filter(None, names)),
            "kind": "service" if user.get("serviceAccountClientId") else "human",
            "status": "suspended" if _is_disabled(user) else "active",
            "attributes": attributes | _given({"keycloakId": user.get("id")}),
        }
    )


_LITELLM_ROLES = {"proxy_admin": "admin", "proxy_admin_viewer": "auditor"}


def _from_litellm(user: Mapping[str, Any]) -> dict[str, Any]:
    email, metadata = user.get("user_email"), user.get("metadata") or {}
    provisioned = {"active": metadata.get("scim_active")}
    is_disabled = _is_disabled(user) or _is_disabled(provisioned)
    return _given(
        {
            "tag": _text(user.get("user_id")),
            "email": email,
            "name": user.get("user_alias"),
            "kind": "human" if email else "service",
            "role": _LITELLM_ROLES.get(user.get("user_role") or "", "member"),
            # A user of whom nothing is said stays as they are here.
            "status": "suspended" if is_disabled else "active" if provisioned["active"] else None,
            "models": _litellm_models(user.get("models")),
            "attributes": metadata | _given({"litellmId": user.get("user_id")}),
        }
    )


def _litellm_models(named: object) -> list[Any]:
    if named is None or named == []:
        return ["*"]
    # The letters of a text, or the keys of an object, would be patterns of other models: an asterisk is all of them.
    if not isinstance(named, list):
        raise TypeError
    # Whatever stands beside it: such a user calls models through a team alone.
    if "no-default-models" in named:
        return []
    return ["*" if name == "all-proxy-models" else name for name in named]


def _from_openai(user: Mapping[str, Any]) -> dict[str, Any]:
    if "object" not in user and "type" in user:
        raise FileInvalid("This is not a list of OpenAI's users; a list of Anthropic's has the format anthropic")
    # Facts about the person stand in an object of their own in some answers.
    about = user.get("user") or {}
    email = user.get("email") or about.get("email")
    name = user.get("name") or about.get("name")
    is_service = _flag(user.get("is_service_account"))
    return _given(
        {
            "tag": _text(email or name or user.get("id")),
            "email": email,
            "name": name,
            "kind": "service" if is_service else "human",
            "role": "admin" if user.get("role") == "owner" and not is_service else "member",
            "status": "suspended" if _is_disabled(user) or _is_disabled(about) else None,
            "attributes": _given({"openaiId": user.get("id")}),
        }
    )


def _from_anthropic(user: Mapping[str, Any]) -> dict[str, Any]:
    if "object" in user or user.get("type") != "user":
        raise FileInvalid("This is not a list of Anthropic's users; a list of OpenAI's has the format openai")
    return _given(
        {
            "tag": _text(user.get("email") or user.get("name") or user.get("id")),
            "email": user.get("email"),
            "name": user.get("name"),
            "role": "admin" if user.get("role") == "admin" else "member",
            "status": "suspended" if _is_disabled(user) else None,
            "attributes": _given({"anthropicId": user.get("id")}),
        }
    )


# Reading


def _read_table(
    file: IO[bytes], names: Mapping[str, str], members: Callable[[Mapping[str, str]], dict[str, Any]]
) -> Iterator[Record]:
    rows = read_rows(file)
    header = _header(next(rows, None), names)
    for line, cells in rows:
        if isinstance(cells, str):
            yield Record(line, cells)
        elif len(cells) != len(header):
            yield Record(line, f"The row has {len(cells)} cells, and the header {len(header)}")
        else:
            trimmed = [cell.strip() for cell in cells]
            yield Record(line, _converted(members, dict(zip(header, trimmed, strict=True))))


def _header(row: Row | None, names: Mapping[str, str]) -> list[str]:
    if row is None:
        raise FileInvalid("The file is empty; the first line names the columns")
    if isinstance(row.cells, str):
        raise FileInvalid(f"The line with the names of the columns: {row.cells}")
    header = [cell.strip() if cell.strip() in names else cell.strip().lower() for cell in row.cells]
    unknown = [cell[:50] for cell in header if cell not in names]
    if unknown:
        raise FileInvalid(f"There is no column {', '.join(map(repr, unknown))}; there are {', '.join(names)}")
    if len(set(header)) != len(header):
        raise FileInvalid("A column is there twice")
    return header


def _read_users(
    file: IO[bytes], place: str, members: Callable[[Mapping[str, Any]], dict[str, Any]]
) -> Iterator[Record]:
    for number, user in enumerate(read_documents(file, place), 1):
        yield _tagged(Record(number, _converted(members, user) if isinstance(user, dict) else "Not an object"))


def _tagged(record: Record) -> Record:
    """The record of another system's user, with tags made of its name and address."""
    if not isinstance(record.members, dict):
        return record
    name = record.members.get("tag", "")
    tag, *others = [*_tags(name, record.members.get("email")), ""]
    return Record(record.line, _given(record.members | {"tag": tag}), name, tuple(filter(None, others)))


def _converted(members: Callable[[Any], dict[str, Any]], source: Mapping[str, Any]) -> dict[str, Any] | str:
    try:
        require_readable(source)
        return members(source)
    except ValueError as error:
        # Values are left out: the message of a decoder says where, and of which kind.
        return str(error)
    except (TypeError, AttributeError):
        return "A member is of another type than this format has it"
