"""The audit log: filters that stand in the address, pages both ways, and which events a seal covers."""

from typing import Annotated
from urllib.parse import urlencode

from flask import Response, request
from pydantic import Field

from ai_admin.access.scopes import Scope
from ai_admin.audit import log
from ai_admin.audit.events import Action
from ai_admin.audit.schemas import EventFilter, EventOrder
from ai_admin.console.catalogue import N_, gettext
from ai_admin.console.shown import word
from ai_admin.console.views.pages import console, page
from ai_admin.console.views.user import names
from ai_admin.console.views.users import Chip, address, as_time, filled, turn, turned
from ai_admin.errors import DatabaseUnavailable, RequestInvalid
from ai_admin.http.models import Positive
from ai_admin.http.paging import Cursors
from ai_admin.http.query import read_pairs
from ai_admin.operations import describe
from ai_admin.services import services

_BESIDE = frozenset({"cursor", "before", "size"})
_LABELS = {
    "actor": N_("By"),
    "target": N_("User"),
    "action": N_("Action"),
    "at[gte]": N_("From"),
    "at[lt]": N_("Before"),
}


class LogQuery(EventFilter):
    """The address of the log: filters as the API has them, and a page."""

    sort: EventOrder = EventOrder.AT_DESC
    size: Annotated[Positive, Field(le=200)] = 50
    cursor: Annotated[str | None, Field(max_length=8192)] = None
    before: Annotated[str | None, Field(max_length=8192)] = None


@console.get("/audit")
@describe(
    "Audit log",
    Scope.AUDIT_READ,
    answers={200: None},
    query=LogQuery,
    errors=(RequestInvalid, DatabaseUnavailable),
    page=True,
)
def read_log() -> Response:
    """A page of events, newest first."""
    pairs = filled(request.query_string.decode("latin-1"))
    query = read_pairs(LogQuery, urlencode([as_time(*pair) for pair in pairs]), "query")
    cursors = Cursors.of("console audit", query, _BESIDE)
    with services().database.connection() as connection:
        found = turn(
            lambda way, window: log.read(connection, query, way, window),
            log.LISTING.orders[query.sort.value],
            cursors,
            query,
        )
        people = names(connection, {event[member] for event in found[0] for member in ("actor", "target")})
    return page(
        "audit",
        events=turned(found, pairs),
        people=people,
        chips=[
            Chip(
                gettext(_LABELS[name]) if name in _LABELS else name,
                word(value),
                address([other for other in pairs if other != (name, value)], "cursor", "before"),
            )
            for name, value in pairs
            if name not in {*_BESIDE, "sort"}
        ],
        query=query,
        actions=list(Action),
    )
