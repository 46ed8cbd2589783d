"""Many users at once, in from a file and out to one: what `ai-admin users` does, by the caller's own rights.

Only a server has these routes: a function would have to hold the file.
"""

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from tempfile import TemporaryFile
from typing import IO, Annotated, Literal
from uuid import UUID

from flask import Blueprint, Response, request
from pydantic import BaseModel, ConfigDict, Field
from werkzeug.exceptions import MethodNotAllowed

from ai_admin.access.guard import actor, require_scope, write_refusal
from ai_admin.access.scopes import Scope
from ai_admin.database import CHANGE_ERRORS, Connection
from ai_admin.errors import (
    ApiError,
    ErrorCode,
    Forbidden,
    ImportRunning,
    PayloadTooLarge,
    RateLimited,
    RequestInvalid,
    RequestTimeout,
    UnsupportedMediaType,
)
from ai_admin.http.answers import JSON, answer
from ai_admin.http.body import media_type, receive
from ai_admin.http.models import LEFT_ALONE, ApiModel, ProblemDetail
from ai_admin.http.query import read_query
from ai_admin.http.request_log import request_id
from ai_admin.operations import describe
from ai_admin.services import one_of_few, services
from ai_admin.transfer.encodings import Encoding, in_utf_8
from ai_admin.transfer.exporting import export_users
from ai_admin.transfer.formats import Match
from ai_admin.transfer.importing import ImportElsewhere, Outcome, import_users
from ai_admin.transfer.tables import FileInvalid
from ai_admin.users.schemas import UserFilter

transfer = Blueprint("transfer", __name__, url_prefix="/ai/admin/users")
IMPORT, EXPORT = f"{transfer.url_prefix}/import", f"{transfer.url_prefix}/export"
# The media types of what goes in and out.
MEDIA_TYPES = {"csv": "text/csv", "ndjson": "application/x-ndjson"}
# Rejected records that an answer lists.
_MOST_REJECTS = 1_000
_FORM_OF = {media_type: form for form, media_type in MEDIA_TYPES.items()}
_EXAMPLES = {
    "text/csv": "tag,email,name,models\nada,ada@example.com,Ada Lovelace,gpt-5* claude-*\n",
    "application/x-ndjson": '{"tag": "ada", "email": "ada@example.com"}\n{"tag": "nightly-eval", "kind": "service"}\n',
    # A realm of Keycloak, with format=keycloak.
    JSON: {"users": [{"username": "ada", "email": "ada@example.com", "enabled": True}]},
}
_log = logging.getLogger(__name__)


class ExportQuery(UserFilter):
    """The query parameters of an export: the filters of the list, and the form of the file."""

    form: Annotated[Literal["csv", "ndjson"], Field(alias="format", description="The form of the file.")] = "ndjson"


class ImportQuery(BaseModel):
    """The query parameters of an import."""

    model_config = ConfigDict(extra="forbid")

    form: Annotated[
        Literal["csv", "ndjson", "keycloak", "litellm", "anthropic", "openai", "open-webui"] | None,
        Field(
            alias="format",
            description="The form of the file; by the Content-Type if not given. JSON is a list of another system: "
            "it has to be said of which.",
        ),
    ] = None
    match: Annotated[
        Literal["tag", "email"] | None,
        Field(description="By what users are found; by tag if not given, users of other systems by email."),
    ] = None
    encoding: Annotated[Encoding, Field(description="The encoding of the file.")] = "utf-8"
    dry_run: Annotated[
        Literal["true", "false"],
        Field(alias="dryRun", description="`true` says what would change, and changes nothing."),
    ] = "false"


class Rejected(ApiModel):
    """A record that was not taken: where it stands, and the problem that a request for it alone would have got."""

    line: Annotated[int, Field(ge=1, description="Its line; in a JSON document the number of the user.")]
    error_code: ErrorCode
    detail: str
    details: Annotated[list[ProblemDetail], Field(description="Each fault of a record that is not valid.")] = LEFT_ALONE


class ImportReport(ApiModel):
    """What an import did, in records of the file."""

    dry_run: bool
    resumed_at: Annotated[int, Field(ge=0, description="Records that an earlier request with the same file had done.")]
    records: Annotated[int, Field(ge=0)]
    created: Annotated[int, Field(ge=0)]
    changed: Annotated[int, Field(ge=0)]
    unchanged: Annotated[int, Field(ge=0)]
    rejected: Annotated[int, Field(ge=0)]
    rejects: Annotated[
        list[Rejected],
        Field(max_length=_MOST_REJECTS, description="The first thousand of those rejected; no values of theirs."),
    ]


@transfer.get("/export")
@describe(
    "Export users",
    Scope.USERS_READ,
    answers={200: None},
    query=ExportQuery,
    errors=(RequestInvalid, RateLimited, *CHANGE_ERRORS),
)
def export_file() -> Response:
    """All users whom a filter finds, as they are at one moment, in the order of their ids; an import takes them back.

    A file whose answer breaks off, without the end that HTTP has for it, is cut short.
    """
    return exported(read_query(ExportQuery))


def exported(query: ExportQuery) -> Response:
    """The answer to a request for a file; to HEAD, its head alone."""
    headers = {"Content-Disposition": f'attachment; filename="users.{query.form}"'}
    file = _Export(query) if request.method == "GET" else ()
    return Response(file, headers=headers, content_type=f"{MEDIA_TYPES[query.form]}; charset=utf-8")


@transfer.post("/import")
@describe(
    "Import users",
    Scope.USERS_WRITE,
    answers={200: ImportReport},
    query=ImportQuery,
    upload=_EXAMPLES,
    errors=(
        RequestInvalid,
        RequestTimeout,
        PayloadTooLarge,
        UnsupportedMediaType,
        ImportRunning,
        RateLimited,
        *CHANGE_ERRORS,
    ),
)
def import_file() -> Response:
    """The body is a file of users: who is not there is created, and others are changed where they differ.

    Nothing is done before the whole file is here. Each record is checked as a request for it alone would be. What
    stops an import keeps what it has done; the same file, sent again by the same caller, goes on from there. A dry run
    compares the file with users and changes none, so it needs `users:read` too.
    """
    query = read_query(ImportQuery)
    form = query.form or _FORM_OF.get(media_type())
    if form is None:
        raise UnsupportedMediaType(f"Send {' or '.join(_FORM_OF)}, or say in format what the file is.")
    settings = services().settings
    dry_run = query.dry_run == "true"
    if dry_run:
        require_scope(Scope.USERS_READ)
    with one_of_few(), TemporaryFile() as file:
        receive(file, settings.config.max_import_bytes)
        outcome = imported(file, form, match=query.match, dry_run=dry_run, encoding=query.encoding)
        rejects = outcome.rejects(settings) if outcome.summary.rejected else ()
        return answer(
            {
                "dryRun": dry_run,
                "resumedAt": outcome.resumed_at,
                **vars(outcome.summary),
                "rejects": [{"line": reject.line, **reject.problem} for reject in rejects],
            }
        )


def imported(
    file: IO[bytes], form: str, *, match: Match | None, dry_run: bool, encoding: Encoding = "utf-8"
) -> Outcome:
    """What comes of an import by the caller. Raises as `import_users` does, but what a caller can be told."""

    def record(connection: Connection, error: Forbidden, line: int, user_id: UUID | None) -> None:
        write_refusal(connection, error, user_id, line=line, dryRun=dry_run)

    try:
        with in_utf_8(file, encoding) as text:
            return import_users(
                services().settings,
                actor(),
                text,
                form,
                match=match,
                dry_run=dry_run,
                most_rejects=_MOST_REJECTS,
                on_refusal=record,
            )
    except FileInvalid as error:
        raise RequestInvalid.at("body", message=str(error)) from None
    except ImportElsewhere:
        raise ImportRunning from None


class _Export:
    """An export as the chunks of an answer; it holds one of the few places until it is closed."""

    def __init__(self, query: ExportQuery) -> None:
        self._request = request_id()
        with ExitStack() as stack:
            stack.enter_context(one_of_few())
            self._chunks = export_users(services().settings, actor(), query, query.form)
            stack.callback(self._chunks.close)
            self._held = stack.pop_all()

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._chunks
        except ApiError as error:
            # The answer has begun: that it breaks off is all that the caller can be told.
            _log.warning("export broken off", exc_info=error, extra={"fields": {"requestId": self._request}})
            raise

    def close(self) -> None:
        """End the export, whether all was read or not."""
        self._held.close()


# Neither is the id of a user, for the methods that a user has and these have not.
_METHODS = {IMPORT: ("OPTIONS", "POST"), EXPORT: ("GET", "HEAD", "OPTIONS")}


@transfer.before_app_request
def _refuse_other_methods() -> None:
    methods = _METHODS.get(request.path)
    if methods and request.method not in methods:
        raise MethodNotAllowed(methods)


@transfer.after_app_request
def _name_methods(response: Response) -> Response:
    if request.method == "OPTIONS" and request.path in _METHODS:
        response.headers["Allow"] = ", ".join(_METHODS[request.path])
    return response
