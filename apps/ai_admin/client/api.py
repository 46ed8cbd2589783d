"""The API as commands use it: where the server is, with which key, and what its refusals come to.

The key is read from a file or from the system's keyring, never from the command line, which other processes see. It
goes to https addresses alone, and to this machine.
"""

import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote
from uuid import UUID, uuid4

import typer

from ai_admin.access.addresses import require_https
from ai_admin.terminal import Exit, failure, unread

if TYPE_CHECKING:
    # As slow to import as all else that `--help` needs; the two functions that use it do so.
    import httpx

URL_VARIABLE, KEY_FILE_VARIABLE = "AI_ADMIN_URL", "AI_ADMIN_KEY_FILE"
# A path is a tuple of its segments: `Api.ask` alone makes the text of it.
Segments = tuple[str, ...]
USERS: Segments = ("ai", "admin", "users")
# The service under which the system's keyring has keys; the name there is the server's address.
_SERVICE = "ai-admin"
# Longer than the server's own waits, in seconds.
_TIMEOUT_S = 30
_PAGE = 200

Url = Annotated[
    str, typer.Option("--url", envvar=URL_VARIABLE, help="Address of the server.", show_default=True, show_envvar=True)
]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--key-file",
        envvar=KEY_FILE_VARIABLE,
        show_envvar=True,
        help="File with your API key; else the system's keyring has it (`ai-admin login`).",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON as the API answers it; a list as one object a line.")]
UserName = Annotated[str, typer.Argument(metavar="USER", help="The user's tag, email address or id.")]
DEFAULT_URL = "http://127.0.0.1:8080"


class Refused(Exception):
    """The server's answer is an error: its status and its problem (RFC 9457)."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        """`problem` has whatever members the answer had."""
        self.status = status
        self.problem = problem
        super().__init__(self._told())

    def _told(self) -> str:
        detail = self.problem.get("detail") or f"the server answered {self.status}"
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in self.problem.get("details", ())]
        code, request = self.problem.get("errorCode", self.status), self.problem.get("requestId")
        return "\n       ".join([f"{detail} ({code}{f', request {request}' if request else ''})", *faults])


class Api:
    """A server, with the key of who asks."""

    def __init__(self, client: "httpx.Client") -> None:
        """`client` knows the address and the key."""
        self._client = client

    def ask(
        self,
        method: str,
        path: Segments,
        *,
        query: Sequence[tuple[str, str]] = (),
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Return the answer's JSON; None where it has no body. Raises `Refused` and `httpx.HTTPError`.

        Ends the command, and sends nothing, where a segment of the path cannot be sent as one.
        """
        response = self._client.request(method, _text(path), params=list(query), json=body, headers=headers)
        try:
            content = response.json() if response.content else None
        except ValueError:
            content = None
        if response.is_success and (content is not None or not response.content):
            return content
        raise Refused(response.status_code, content if isinstance(content, dict) else {})

    def create(self, path: Segments, body: Mapping[str, Any]) -> Any:
        """POST that is safe to repeat: where no answer came it is sent once more, and done once (Idempotency-Key)."""
        import httpx  # noqa: PLC0415

        headers = {"Idempotency-Key": str(uuid4())}
        try:
            return self.ask("POST", path, body=body, headers=headers)
        except httpx.TransportError as error:
            if isinstance(error, httpx.ConnectError):
                raise
            return self.ask("POST", path, body=body, headers=headers)

    def listed(self, path: Segments, query: Sequence[tuple[str, str]], most: int | None) -> Iterator[dict[str, Any]]:
        """The items of a list, page by page, so many at most."""
        cursor: str | None = None
        found = 0
        while most is None or found < most:
            size = _PAGE if most is None else min(_PAGE, most - found)
            paging = [("size", str(size)), *([("cursor", cursor)] if cursor else [])]
            page = self.ask("GET", path, query=[*query, *paging])
            yield from page["data"]
            found += len(page["data"])
            cursor = page.get("nextCursor")
            if cursor is None:
                return

    def user(self, name: str, *, deleted: bool = False) -> dict[str, Any]:
        """The user with this id, email address or tag; deleted ones only where asked for, the latest first."""
        try:
            path = (*USERS, str(UUID(name)))
        except ValueError:
            member = "email" if "@" in name else "tag"
            query = [(member, name), ("count", "none"), ("sort", "-updatedAt")]
            users = self.ask("GET", USERS, query=[*query, *([("status", "deleted")] if deleted else [])])["data"]
            if not users:
                raise failure(self._no_user(member, name, deleted=deleted), Exit.REFUSED) from None
            return dict(users[0])
        return dict(self.ask("GET", path))

    def _no_user(self, member: str, name: str, *, deleted: bool) -> str:
        """Say that there is no such user; where a deleted one had the name, say how to see, restore and purge them."""
        if deleted:
            return f"there is no deleted user with the {member} {name}"
        query = [(member, name), ("status", "deleted"), ("count", "none"), ("sort", "-updatedAt"), ("size", "2")]
        found = self.ask("GET", USERS, query=query)["data"]
        if not found:
            return f"there is no user with the {member} {name}"
        one = f"the deleted user {found[0]['id']} had it" if len(found) == 1 else "deleted users had it"
        listed = f"{member}={name}"
        return "\n       ".join(
            [
                f"there is no user with the {member} {name}; {one}",
                f"see      ai-admin users list --where status=deleted --where {shlex.quote(listed)}",
                f"restore  ai-admin users restore {found[0]['id']}",
                f"purge    ai-admin users delete {found[0]['id']} --purge",
            ]
        )


def user_path(user: Mapping[str, Any], *more: str) -> Segments:
    """Return the path of a user, or of what is below them."""
    return (*USERS, user["id"], *more)


def _text(path: Segments) -> str:
    """Return the path as it is sent, each segment encoded (RFC 3986, 3.3).

    Ends the command for an empty segment and for one of dots: clients and proxies take those out of a path, which then
    leads to another resource (RFC 3986, 5.2.4). So do some proxies after they have decoded a slash.
    """
    for segment in path:
        if segment in {"", ".", ".."}:
            raise failure(f"'{segment}' is no name or id; nothing was sent", Exit.TROUBLE)
        if not segment.isprintable() or "/" in segment or "\\" in segment:
            raise failure(f"{segment!r} has characters that no name or id has; nothing was sent", Exit.TROUBLE)
    return "".join(f"/{quote(segment, safe='')}" for segment in path)


def server(url: str, key_file: Path | None) -> AbstractContextManager[Api]:
    """The server at this address, with the key that is kept for it."""
    return server_with(url, _key(url, key_file))


@contextmanager
def server_with(url: str, key: str) -> Iterator[Api]:
    """The server at this address. Errors end the command, told in one line: exit 1 for a refusal, 2 for trouble."""
    import httpx  # noqa: PLC0415

    try:
        require_https(url)
    except ValueError as error:
        raise failure(f"{url}: the server's address {error}", Exit.TROUBLE) from None
    try:
        if not key or not (key.isascii() and key.isprintable()) or " " in key:
            raise failure("that is no API key", Exit.TROUBLE)
        headers = {"Authorization": f"Bearer {key}", "User-Agent": "ai-admin"}
        with httpx.Client(base_url=url.rstrip("/"), headers=headers, timeout=_TIMEOUT_S) as client:
            yield Api(client)
    except UnicodeEncodeError as error:
        raise failure(f"{error.object!r} is not text in UTF-8; nothing was sent", Exit.TROUBLE) from None
    except BrokenPipeError:
        raise unread() from None
    except OSError as error:
        raise failure(error, Exit.TROUBLE) from None
    except Refused as error:
        raise failure(error, Exit.REFUSED if error.status < 500 else Exit.TROUBLE) from None  # noqa: PLR2004
    except httpx.TimeoutException:
        raise failure(f"{url} did not answer within {_TIMEOUT_S} seconds", Exit.TROUBLE) from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise failure(f"{url} cannot be reached: {error}", Exit.TROUBLE) from None


def _key(url: str, key_file: Path | None) -> str:
    if key_file is not None:
        return read_key(key_file, "--key-file", "API key")
    kept = keyring_module()
    key = kept.get_password(_SERVICE, url.rstrip("/")) if kept else None
    if key is None:
        keep = f"{'' if kept else 'install ai-admin[keyring] and '}keep it with `ai-admin login`"
        files = f"name its file with --key-file or {KEY_FILE_VARIABLE}"
        raise failure(f"no API key for {url}: {files}, or {keep}", Exit.TROUBLE)
    return str(key)


def keyring_module() -> Any:
    """The library of the system's keyring; None where it is not installed."""
    try:
        import keyring  # noqa: PLC0415  an extra
    except ImportError:
        return None
    return keyring


def keep_key(url: str, key: str) -> None:
    """Put a key into the system's keyring."""
    kept = keyring_module()
    if kept is None:
        raise failure("there is no keyring: install ai-admin[keyring]", Exit.TROUBLE)
    kept.set_password(_SERVICE, url.rstrip("/"), key)


def pair(text: str, option: str) -> tuple[str, str]:
    """Return the name and the value of an option such as `--where role=admin`. Ends the command for any other text."""
    name, equals, value = text.partition("=")
    if not equals:
        raise failure(f"{option} {text}: write it as NAME=VALUE", Exit.TROUBLE)
    return name, value


def read_bytes(file: Path | None, option: str, name: str) -> bytes:
    """Return the bytes of a file as they are, else what is typed at a prompt or comes from standard input.

    A single line of text from standard input loses its line break, which `echo` adds. Errors name the file by `option`.
    """
    if file is not None:
        try:
            return file.read_bytes()
        except OSError as error:
            raise failure(f"{option} {file}: {error.strerror}", Exit.TROUBLE) from None
    if sys.stdin.isatty():
        return str(typer.prompt(name, hide_input=True)).encode(errors="surrogateescape")
    content = typer.get_binary_stream("stdin").read()
    line = content.removesuffix(b"\n").removesuffix(b"\r" if os.linesep == "\r\n" else b"")
    return content if b"\n" in line or text_of(content) is None else line


def text_of(content: bytes) -> str | None:
    """Return the text that these bytes are in UTF-8; None where they are none that the API takes as text."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def read_key(file: Path | None, option: str, name: str) -> str:
    """Return an API key from a file or else from standard input, without blanks and line breaks around it."""
    text = text_of(read_bytes(file, option, name))
    if text is None:
        raise failure(f"{f'{option} {file}' if file else 'standard input'}: that is no API key", Exit.TROUBLE)
    return text.strip()
