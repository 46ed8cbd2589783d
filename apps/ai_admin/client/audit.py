"""`ai-admin audit tail`: the newest events, over HTTP."""

import time
from datetime import datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import typer

from ai_admin.audit.actions import Action
from ai_admin.client.api import DEFAULT_URL, Api, AsJson, KeyFile, Url, server
from ai_admin.terminal import print_json, print_table

app = typer.Typer()
_AUDIT = ("ai", "admin", "audit")
_COLUMNS = ("at", "action", "actor", "target", "source", "seal", "id")
# Seconds between two looks at the log.
_EVERY_S = 2
# How much later than others an event may appear; statements are given up long before.
_LATEST = timedelta(minutes=2)


@app.command()
def tail(
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=100_000, help="How many of the newest.")] = 20,
    action: Annotated[list[Action] | None, typer.Option(help="Only these actions; may be repeated.")] = None,
    user: Annotated[str | None, typer.Option(help="Only what was done to this user: tag, email address or id.")] = None,
    key: Annotated[
        list[UUID] | None, typer.Option(help="Only what was done with this API key, by its id; may be repeated.")
    ] = None,
    request_id: Annotated[list[str] | None, typer.Option(help="Only what this request did; may be repeated.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more, until Ctrl-C.")] = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
) -> None:
    """Print the newest events of the audit log, the oldest of them first.

    Example: ai-admin audit tail -n 50 --action users:delete

    Example: ai-admin audit tail --request-id 01890a5d-ac96-774b-bcce-b302099a8057

    Example: ai-admin audit tail --follow --json
    """
    with server(url, key_file) as api:
        query = [
            *(("action", each.value) for each in action or ()),
            *(("key", str(each)) for each in key or ()),
            *(("requestId", each) for each in request_id or ()),
        ]
        if user is not None:
            query.append(("target", api.user(user)["id"]))
        events = list(api.listed(_AUDIT, query, lines))[::-1]
        # Before the first are printed: what is there now and older than they are is not new to `_follow`.
        recent = _since(api, query, _start(events)) if follow and events else []
        _print(events, as_json)
        if follow:
            _follow(api, query, events + recent, as_json)


def _follow(api: Api, query: list[tuple[str, str]], events: list[dict[str, Any]], as_json: bool) -> None:
    """Print new events until the command is ended. An event appears when its transaction ends, after later ones."""
    seen = {event["id"]: _time(event) for event in events}
    since = _start(events)
    while True:
        time.sleep(_EVERY_S)
        new = [event for event in _since(api, query, since) if event["id"] not in seen]
        _print(new, as_json)
        seen |= {event["id"]: _time(event) for event in new}
        since = max((at - _LATEST for at in seen.values()), default=None)
        seen = {name: at for name, at in seen.items() if since and at >= since}


def _start(events: list[dict[str, Any]]) -> datetime | None:
    """Return the time from which events may still appear: by the clock of the log, not of this machine."""
    return max((_time(event) - _LATEST for event in events), default=None)


def _since(api: Api, query: list[tuple[str, str]], since: datetime | None) -> list[dict[str, Any]]:
    """Return the events from this time on, the oldest first."""
    start = [("at[gte]", since.isoformat())] if since else []
    return list(api.listed(_AUDIT, [*query, *start, ("sort", "at")], None))


def _time(event: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(event["at"].replace("Z", "+00:00"))


def _print(events: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        for event in events:
            print_json(event)
    elif events:
        print_table(_COLUMNS, events)
