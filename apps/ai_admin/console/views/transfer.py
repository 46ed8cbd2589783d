"""Files of users: one is looked at first, and brought in once that is confirmed; what the list shows goes out.

Between the two steps the page holds the file, packed and sealed: no server keeps it, and any of them goes on with it.
Only a server has these pages, as it alone has the routes of the API that they stand for.
"""

import zlib
from base64 import b64decode, b64encode
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from io import BytesIO
from typing import Any
from urllib.parse import urlencode

from flask import Response, g, request

from ai_admin.access.guard import require_scope
from ai_admin.access.scopes import Scope
from ai_admin.console.catalogue import gettext
from ai_admin.console.forms import Faults
from ai_admin.console.sealed import NotOurs, seal, unseal
from ai_admin.console.views.pages import TRANSFER, blueprint, page
from ai_admin.console.views.users import as_time, filled
from ai_admin.database import CHANGE_ERRORS
from ai_admin.errors import (
    ApiError,
    ImportRunning,
    PayloadTooLarge,
    RateLimited,
    RequestInvalid,
    error_classes,
)
from ai_admin.http.query import read_pairs
from ai_admin.operations import LARGEST, UPLOAD, describe
from ai_admin.services import one_of_few, services
from ai_admin.transfer.encodings import ENCODINGS, Encoding, in_utf_8
from ai_admin.transfer.formats import FORMATS
from ai_admin.transfer.importing import Outcome
from ai_admin.transfer.tables import FileInvalid
from ai_admin.transfer.views import ExportQuery, exported, imported

console_transfer = blueprint(TRANSFER)
# Each with the name that its readers know it by, and the suffixes that mean it.
_NAMES = {
    "csv": "CSV",
    "ndjson": "NDJSON",
    "keycloak": "Keycloak (JSON)",
    "litellm": "LiteLLM (JSON)",
    "anthropic": "Anthropic (JSON)",
    "openai": "OpenAI (JSON)",
    "open-webui": "Open WebUI (CSV)",
}
_SUFFIXES = {".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson"}
_CONFIRMED_FOR = timedelta(hours=1)
# Of those refused, the first that a page shows.
_SHOWN = 100
# What a form has beside the file.
_BESIDE_BYTES = 4096
_ERRORS: tuple[type[ApiError], ...] = (RequestInvalid, PayloadTooLarge, ImportRunning, RateLimited, *CHANGE_ERRORS)
_CLASSES = {error.code.value: error for error in error_classes()}


@console_transfer.get("/users/export")
@describe(
    "Export users from the list",
    Scope.USERS_READ,
    answers={200: None},
    query=ExportQuery,
    errors=(RequestInvalid, RateLimited, *CHANGE_ERRORS),
    page=True,
)
def export_list() -> Response:
    """All users whom the filters of the list find, in one file."""
    pairs = filled(request.query_string.decode("latin-1"))
    return exported(read_pairs(ExportQuery, urlencode([as_time(*pair) for pair in pairs]), "query"))


@console_transfer.get("/users/import")
@describe("Import users", Scope.USERS_WRITE, answers={200: None}, page=True)
def choose_file() -> Response:
    """The form."""
    return _form("")


@console_transfer.post("/users/import")
@describe(
    "Check a file",
    Scope.USERS_WRITE,
    answers={200: None, 400: None},
    body_type=UPLOAD,
    largest=LARGEST,
    errors=_ERRORS,
    page=True,
)
def check_file() -> Response:
    """What an import of the file would change; nothing is. Compares it with users, so it needs `users:read` too."""
    require_scope(Scope.USERS_READ)
    sent = request.files.get("file")
    if sent is None or not sent.filename:
        return _form(gettext("Choose a file."))
    name = sent.filename.lower()
    form = request.form.get("format") or next((_SUFFIXES[end] for end in _SUFFIXES if name.endswith(end)), "")
    if form not in FORMATS:
        return _form(gettext("Say what kind of file this is."))
    try:
        # The page holds the file in UTF-8.
        with in_utf_8(BytesIO(sent.read()), _encoding()) as text:
            content = text.read()
    except FileInvalid as error:
        return _form(str(error))
    try:
        with one_of_few():
            outcome = imported(BytesIO(content), form, match=None, dry_run=True)
    except RequestInvalid as error:
        return _form(" ".join(fault["msg"] for fault in error.details or ()))
    sealed = _sealed(content, form, sent.filename)
    if len(sealed) > services().settings.config.max_body_bytes - _BESIDE_BYTES:
        raise PayloadTooLarge(gettext("This file is too large for a page. Import it with the command or over the API."))
    return _report(outcome, sent.filename, sealed)


@console_transfer.post("/users/import/apply")
@describe(
    "Import a file that was checked",
    Scope.USERS_WRITE,
    answers={200: None},
    largest=LARGEST,
    errors=_ERRORS,
    page=True,
)
def import_checked() -> Response:
    """The import; done once more, it finds nothing to do."""
    content, form, name = _opened(request.form.get("file", ""))
    with one_of_few():
        outcome = imported(BytesIO(content), form, match=None, dry_run=False)
        return _report(outcome, name, None)


def _encoding() -> Encoding:
    chosen = request.form.get("encoding", "utf-8")
    return next((encoding for encoding in ENCODINGS if encoding == chosen), "utf-8")


def _form(fault: str) -> Response:
    return page(
        "import",
        400 if fault else 200,
        fault=fault,
        formats=_NAMES,
        chosen=request.form.get("format", ""),
        encodings=ENCODINGS,
        encoding=_encoding(),
        largest=services().settings.config.max_body_bytes,
    )


def _report(outcome: Outcome, name: str, sealed: str | None) -> Response:
    rejects = list(outcome.rejects(services().settings)) if outcome.summary.rejected else []
    return page(
        "import_report",
        summary=outcome.summary,
        rejects=[(reject.line, _reasons(reject.problem)) for reject in rejects[:_SHOWN]],
        name=name,
        sealed=sealed,
    )


def _reasons(problem: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is wrong with a record: members, and what is said of each; the empty member is the record."""
    error: ApiError = _CLASSES[problem["errorCode"]](problem["detail"], details=problem.get("details"))
    return list(Faults.of(error).items())


def _purpose() -> bytes:
    """Whoever had the file checked imports it, and nobody else."""
    return b"ai-admin console import 1" + bytes(g.principal.user_id.bytes)


def _sealed(content: bytes, form: str, name: str) -> str:
    until = datetime.now(timezone.utc) + _CONFIRMED_FOR
    return seal([until.timestamp(), form, name[:200], b64encode(zlib.compress(content)).decode()], _purpose())


def _opened(sealed: str) -> tuple[bytes, str, str]:
    try:
        until, form, name, packed = unseal(sealed, _purpose())
    except NotOurs:
        raise RequestInvalid.at("body", "file", message=gettext("There is no file to import.")) from None
    if until < datetime.now(timezone.utc).timestamp():
        raise RequestInvalid.at("body", "file", message=gettext("The check is too old: check the file again."))
    return zlib.decompress(b64decode(packed)), form, name
