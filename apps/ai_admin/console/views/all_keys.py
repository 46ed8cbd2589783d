"""The keys of all users: filters that stand in the address, pages both ways, and the report of a leaked key."""

from typing import Annotated, Any
from urllib.parse import urlencode

from flask import Response, request
from pydantic import Field

from ai_admin.access.guard import actor
from ai_admin.access.scopes import Scope
from ai_admin.console.catalogue import N_, gettext
from ai_admin.console.forms import Faults, read_fields, told
from ai_admin.console.shown import WORDS, word
from ai_admin.console.views.pages import console, holds, page
from ai_admin.console.views.users import Chip, address, as_time, filled, turn, turned
from ai_admin.database import CHANGE_ERRORS
from ai_admin.errors import DatabaseUnavailable, KeyNotFound, RequestInvalid
from ai_admin.http.models import Positive
from ai_admin.http.paging import Cursors
from ai_admin.http.query import read_pairs
from ai_admin.keys import inventory
from ai_admin.keys.schemas import KeyFilter, KeyOrder, KeyState, LeakReport
from ai_admin.operations import describe
from ai_admin.services import services

_BESIDE = frozenset({"cursor", "before", "size"})
_LABELS = {
    "user": N_("User"),
    "scope": N_("Scope"),
    "state": N_("Status"),
    "neverExpires": N_("Never ends"),
    "neverUsed": N_("Never used"),
    "expiresAt[lt]": N_("Ends before"),
    "lastUsedAt[lt]": N_("Not used since"),
}
_ORDERS = {
    KeyOrder.CREATED_AT_DESC: N_("Newest first"),
    KeyOrder.CREATED_AT: N_("Oldest first"),
    KeyOrder.EXPIRES_AT: N_("Next to end first"),
    KeyOrder.LAST_USED_AT: N_("Longest unused first"),
    KeyOrder.LAST_USED_AT_DESC: N_("Last used first"),
}


class ListQuery(KeyFilter):
    """The address of the list: filters as the API has them, and a page."""

    sort: KeyOrder = KeyOrder.CREATED_AT_DESC
    size: Annotated[Positive, Field(le=200)] = 50
    cursor: Annotated[str | None, Field(max_length=8192)] = None
    before: Annotated[str | None, Field(max_length=8192)] = None


@console.get("/keys")
@describe(
    "Keys",
    Scope.KEYS_READ,
    answers={200: None},
    query=ListQuery,
    errors=(RequestInvalid, DatabaseUnavailable),
    page=True,
)
def list_all_keys() -> Response:
    """A page of keys that match."""
    return _page()


@console.post("/keys/report-leak")
@describe(
    "Report a leaked key",
    Scope.KEYS_WRITE,
    answers={200: None, 400: None, 404: None},
    errors=(RequestInvalid, KeyNotFound, *CHANGE_ERRORS),
    page=True,
)
def report_leaked_key() -> Response:
    """Revoke the key with this text, and say whose it is."""
    try:
        report = read_fields(LeakReport, {"key": request.form.get("key", "")})
        with services().database.transaction() as connection:
            found = inventory.end_leaked(connection, actor(), report.key)
    except RequestInvalid as error:
        return _page(error.status, fault=Faults.of(error).get("key") or told(error))
    except KeyNotFound as error:
        return _page(error.status, fault=gettext("No key has this text. Check that it is complete."))
    return _page(found=found)


def _page(status: int = 200, **values: Any) -> Response:
    """The page, with a list for those who may see keys; after a form it is the list without filters."""
    pairs = filled(request.query_string.decode("latin-1")) if request.method != "POST" else []
    query = read_pairs(ListQuery, urlencode([as_time(*pair) for pair in pairs]), "query")
    return page(
        "all_keys",
        status,
        keys=turned(_turn(query), pairs) if holds(Scope.KEYS_READ) else None,
        query=query,
        chips=[
            Chip(
                gettext(_LABELS[name]) if name in _LABELS else name,
                word(value) if value in WORDS else value,
                address([other for other in pairs if other != (name, value)], "cursor", "before"),
            )
            for name, value in pairs
            if name not in {*_BESIDE, "sort"}
        ],
        scopes=list(Scope),
        states=list(KeyState),
        orders={order.value: gettext(label) for order, label in _ORDERS.items()},
        **values,
    )


def _turn(query: ListQuery) -> tuple[list[dict[str, Any]], str | None, str | None]:
    cursors = Cursors.of("console keys", query, _BESIDE)
    order = inventory.LISTING.orders[query.sort.value]
    with services().database.connection() as connection:
        return turn(lambda way, window: inventory.read(connection, actor(), query, way, window), order, cursors, query)
