"""The audit log: who did what to whom, and when. Nobody can change it, and a removal is found."""

from flask import Blueprint, Response

from ai_admin.access.scopes import Scope
from ai_admin.audit import log
from ai_admin.audit.schemas import LARGEST_PAGE, EventPage, EventQuery
from ai_admin.errors import DatabaseUnavailable, RequestInvalid
from ai_admin.http.answers import answer
from ai_admin.http.paging import Cursors
from ai_admin.http.query import read_query
from ai_admin.listing import Window
from ai_admin.operations import describe
from ai_admin.services import services

audit = Blueprint("audit", __name__, url_prefix="/ai/admin/audit")


@audit.get("")
@describe(
    "Read the audit log",
    Scope.AUDIT_READ,
    answers={200: EventPage},
    query=EventQuery,
    errors=(RequestInvalid, DatabaseUnavailable),
)
def list_events() -> Response:
    """Every change, and every request that was refused. Filters are joined by AND; follow `nextCursor` to read on."""
    query = read_query(EventQuery)
    size = min(query.size, LARGEST_PAGE)
    cursors = Cursors.of("audit", query, {"size", "cursor"})
    window = Window(size, after=cursors.position(query.cursor))
    with services().database.connection() as connection:
        page = log.read(connection, query, log.LISTING.orders[query.sort.value], window)
    return answer({"data": page.rows, "size": size, "nextCursor": cursors.cursor(page.last)})
