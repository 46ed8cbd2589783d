"""The audit log: filters that stand in the address, pages both ways, and which events a seal covers."""

import time
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlencode

import psycopg
from flask import Response, request
from nacl.signing import VerifyKey
from pydantic import Field

from ai_admin.access.scopes import Scope
from ai_admin.audit import log
from ai_admin.audit.events import Action
from ai_admin.audit.schemas import EventFilter, EventOrder
from ai_admin.audit.sealing import signing_key, verify_log
from ai_admin.audit.seals import key_id
from ai_admin.config import DatabaseSettings
from ai_admin.console.catalogue import N_, gettext
from ai_admin.console.shown import word
from ai_admin.console.views.pages import console, page
from ai_admin.console.views.user import names
from ai_admin.console.views.users import Chip, address, as_time, filled, turn, turned
from ai_admin.database import domain_error
from ai_admin.errors import DatabaseUnavailable, RateLimited, RequestInvalid
from ai_admin.http.models import Positive
from ai_admin.http.paging import Cursors
from ai_admin.http.query import read_pairs
from ai_admin.operations import describe
from ai_admin.services import one_of_few, services

# Seconds that a verification may take here; the command line has all the time it needs.
_PATIENCE_S = 20
_BESIDE = frozenset({"cursor", "before", "size"})
_LABELS = {
    "actor": N_("By"),
    "target": N_("User"),
    "key": N_("Key"),
    "requestId": N_("Request"),
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


class _LongerThanAPageMay(Exception):
    """The verification is given up."""


@dataclass(frozen=True)
class Verdict:
    """What a verification found: how much of the log it saw, and the faults; `cut` where it was given up."""

    seals: int
    events: int = 0
    waiting: int = 0
    faults: tuple[str, ...] = ()
    cut: bool = False


@console.post("/audit/verify")
@describe(
    "Verify the audit log",
    Scope.AUDIT_READ,
    answers={200: None},
    errors=(RateLimited, DatabaseUnavailable),
    page=True,
)
def verify() -> Response:
    """Every seal and every event, as `ai-admin audit verify` does, as far as that goes in the time that a page has."""
    settings = services().settings
    key = signing_key(settings.secret)
    return page("verified", verdict=_verified(settings.secret, key.verify_key) if key else None)


def _verified(settings: DatabaseSettings, key: VerifyKey) -> Verdict:
    ends = time.monotonic() + _PATIENCE_S
    seen = 0

    def progress(done: int, _total: int) -> None:
        nonlocal seen
        seen = done
        if time.monotonic() > ends:
            raise _LongerThanAPageMay

    try:
        with one_of_few():
            result, waiting = verify_log(settings, {key_id(key): key}, None, progress)
    except _LongerThanAPageMay:
        return Verdict(seen, cut=True)
    except psycopg.Error as error:
        raise domain_error(error) from error
    return Verdict(result.seals, result.events, waiting.events, tuple(map(str, result.findings.values())))
