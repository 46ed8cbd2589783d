"""The list of users: search, filters that stand in the address, orders, columns, and pages both ways."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlencode

from flask import Response, request
from pydantic import Field
from werkzeug.datastructures import MultiDict

from ai_admin.access.guard import actor
from ai_admin.access.scopes import Scope
from ai_admin.console.catalogue import N_, gettext
from ai_admin.console.forms import FAULTS, Faults, attributes_of, lines_of, read_fields
from ai_admin.console.shown import WORDS, word
from ai_admin.console.views.pages import HOME, answered, console, page, see_other, see_user
from ai_admin.cursors import Position
from ai_admin.database import CHANGE_ERRORS
from ai_admin.errors import ApiError, DatabaseUnavailable, DuplicateEmail, DuplicateTag, RequestInvalid
from ai_admin.http.models import Positive
from ai_admin.http.paging import Cursors
from ai_admin.http.query import pairs_of, read_pairs
from ai_admin.listing import Order, Page, Window, count, fetch_page
from ai_admin.operations import describe
from ai_admin.services import services
from ai_admin.users import directory
from ai_admin.users.schemas import AiUserCreate, Kind, Role, Status, UserFilter, UserOrder

Column = Literal["tag", "email", "kind", "role", "status", "models", "createdAt", "updatedAt"]
SIZES = (25, 50, 100, 200)
_SHOWN: tuple[Column, ...] = ("email", "role", "status", "models", "createdAt")
_SORTED = {"name", "tag", "email", "createdAt", "updatedAt"}
# Members of the query that choose a page or how it looks, and not users.
_BESIDE = frozenset({"cursor", "before", "size", "column", "density"})

# Members of the query that the form has fields for, or that it leads away from.
_FIELDS = frozenset({"q", "status", "role", "kind", "createdAt[gte]", "createdAt[lt]", "cursor", "before"})


class ListQuery(UserFilter):
    """The address of the list: filters as the API has them, and how they are shown."""

    sort: UserOrder = UserOrder.CREATED_AT_DESC
    size: Annotated[Positive, Field(le=SIZES[-1])] = 50
    cursor: Annotated[str | None, Field(max_length=8192)] = None
    before: Annotated[str | None, Field(max_length=8192)] = None
    column: Annotated[list[Column] | None, Field(max_length=20)] = None
    density: Literal["comfortable", "compact"] = "comfortable"


@dataclass(frozen=True)
class Chip:
    """A filter that is in force, and the address without it."""

    label: str
    value: str
    without: str


@dataclass(frozen=True)
class Turned:
    """A page with the addresses of those before and after it."""

    rows: list[dict[str, Any]]
    before: str | None
    after: str | None


@console.get("/users")
@describe(
    "Users",
    Scope.USERS_READ,
    answers={200: None},
    query=ListQuery,
    errors=(RequestInvalid, DatabaseUnavailable),
    page=True,
)
def list_users() -> Response:
    """A page of users who match. An attribute that was typed into the form is led on to the filter that it means."""
    pairs = filled(request.query_string.decode("latin-1"))
    if any(name == "attribute" for name, _ in pairs):
        return see_other(f"{HOME}/users?{urlencode(list(_with_attribute(pairs).items(multi=True)))}")
    query = read_pairs(ListQuery, urlencode([as_time(*pair) for pair in pairs]), "query")
    conditions = directory.conditions(query)
    cursors = Cursors.of("console users", query, _BESIDE)
    order = directory.LISTING.orders[query.sort.value]
    with services().database.connection() as connection:
        found = turn(
            lambda way, window: fetch_page(connection, directory.LISTING, conditions, way, window),
            order,
            cursors,
            query,
        )
        total = services().estimates.of(cursors.asked, lambda: count(connection, directory.LISTING, conditions))
    return page(
        "users",
        users=turned(found, pairs),
        total=total,
        query=query,
        chips=list(_chips(pairs)),
        exports={form: address(pairs, *_BESIDE, "sort", format=form.lower()) for form in ("CSV", "NDJSON")},
        kept=_kept(pairs),
        columns=query.column or list(_SHOWN),
        all_columns=list(get_args(Column)),
        sorts=_sorts(pairs, query.sort.value),
        densities={name: address(pairs, density=name) for name in ("comfortable", "compact")},
        sizes={size: address(pairs, "cursor", "before", size=str(size)) for size in SIZES},
        kinds=list(Kind),
        roles=list(Role),
        statuses=list(Status),
        day=_day,
    )


def _with_attribute(pairs: list[tuple[str, str]]) -> MultiDict[str, str]:
    """The filters, and `attribute=team=vision` as the list has it. Raises `RequestInvalid`."""
    asked = MultiDict(pairs)
    given, *more = asked.poplist("attribute")
    member, equals, value = given.partition("=")
    if more or not (member.strip() and equals and value.strip()):
        raise RequestInvalid.at("query", "attribute", message=gettext("Write it as name=value, such as team=vision."))
    asked[f"attributes[{member.strip()}]"] = value.strip()
    return asked


@console.get("/users/new")
@describe("New user", Scope.USERS_WRITE, answers={200: None}, page=True)
def new_user() -> Response:
    """The form."""
    return _new({}, {})


@console.post("/users/new")
@describe(
    "Create a user",
    Scope.USERS_WRITE,
    answers={303: None, 400: None},
    errors=(RequestInvalid, DuplicateTag, DuplicateEmail, *CHANGE_ERRORS),
    page=True,
)
def create_user() -> Response:
    """Leads to the user; with faults beside their fields where there are any."""
    form = request.form
    members: dict[str, Any] = {name: form[name] for name in ("tag", "kind", "role") if form.get(name)}
    members |= {name: form[name].strip() for name in ("email", "name") if form.get(name, "").strip()}
    members["models"] = lines_of(form.get("models", ""))
    try:
        members["attributes"] = attributes_of(form.get("attributes", ""))
        new = read_fields(AiUserCreate, members)
        with services().database.transaction() as connection:
            user = directory.create(connection, actor(), new)
    except FAULTS as error:
        return _new(form, Faults.of(error), error)
    return see_user(user["id"], made="1")


def _new(form: Any, faults: dict[str, str], error: ApiError | None = None) -> Response:
    return page(
        "new_user",
        answered(error) if error else 200,
        form=form,
        faults=faults,
        error=error,
        kinds=list(Kind),
        roles=list(Role),
    )


def turn(fetch: Any, order: Order, cursors: Cursors, query: Any) -> tuple[list[dict[str, Any]], str | None, str | None]:
    """Rows of a page, and the cursors of the page before and of the one after.

    Backwards is the order turned round, from the first row of the page that was left.
    """
    back = query.before is not None
    position: Position | None = cursors.position(query.before if back else query.cursor)
    way = replace(order, descending=not order.descending) if back else order
    found: Page = fetch(way, Window(query.size, after=position))
    first = found.ends[0] if found.ends else None
    if back:
        return found.rows[::-1], cursors.cursor(found.last), cursors.cursor(first)
    return found.rows, cursors.cursor(first if position else None), cursors.cursor(found.last)


def turned(found: tuple[list[dict[str, Any]], str | None, str | None], pairs: list[tuple[str, str]]) -> Turned:
    """A page with its addresses instead of its cursors."""
    rows, before, after = found
    return Turned(
        rows,
        address(pairs, "cursor", before=before) if before else None,
        address(pairs, "before", cursor=after) if after else None,
    )


def filled(raw: str) -> list[tuple[str, str]]:
    """Names and values of a query without those that a form left empty."""
    return [pair for pair in pairs_of(raw, "query") if pair[1].strip()]


def address(pairs: list[tuple[str, str]], *without: str, **with_: str) -> str:
    """This page's query, without some parameters and with others in their place."""
    kept = [(name, value) for name, value in pairs if name not in {*without, *with_}]
    return "?" + urlencode([*kept, *with_.items()])


def _kept(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """What stays in force when the form with the search and the filters is sent: all that it has no field for."""
    return [pair for pair in pairs if pair[0] not in _FIELDS]


def as_time(name: str, value: str) -> tuple[str, str]:
    """A form's date as the time at which it begins, in UTC."""
    is_day = name.startswith(("createdAt[", "updatedAt[", "expiresAt[", "lastUsedAt[", "at[")) and "T" not in value
    return name, f"{value}T00:00:00Z" if is_day else value


def _day(pairs: Iterable[tuple[str, str]], name: str) -> str:
    return next((value[:10] for key, value in pairs if key == name), "")


_LABELS = {
    "q": N_("Search"),
    "id": N_("Id"),
    "createdAt[gte]": N_("Created from"),
    "createdAt[gt]": N_("Created after"),
    "createdAt[lte]": N_("Created until"),
    "createdAt[lt]": N_("Created before"),
    "updatedAt[gte]": N_("Updated from"),
    "updatedAt[gt]": N_("Updated after"),
    "updatedAt[lte]": N_("Updated until"),
    "updatedAt[lt]": N_("Updated before"),
    "tag[prefix]": N_("Tag begins with"),
    "email[prefix]": N_("Email begins with"),
    "name[prefix]": N_("Name begins with"),
}


def _chips(pairs: list[tuple[str, str]]) -> Iterable[Chip]:
    for index, (name, value) in enumerate(pairs):
        if name in _BESIDE or name == "sort":
            continue
        label = gettext(_LABELS[name]) if name in _LABELS else word(name)
        if name.startswith("attributes["):
            label = name[len("attributes[") : -1]
        others = [pair for number, pair in enumerate(pairs) if number != index]
        yield Chip(label, word(value) if value in WORDS else value, address(others, "cursor", "before"))


def _sorts(pairs: list[tuple[str, str]], present: str) -> dict[str, tuple[str, str]]:
    """For each column that can be sorted: the address that does it, and how it is sorted now."""
    sorts = {}
    for name in _SORTED:
        turned_round = f"-{name}" if present == name else name
        state = {name: "ascending", f"-{name}": "descending"}.get(present, "none")
        sorts[name] = (address(pairs, "cursor", "before", sort=turned_round), state)
    return sorts
