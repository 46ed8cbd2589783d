"""Sessions of the console: who has signed in once stands behind a random token in a cookie for some time.

A session rests on the API key, or on the identity at the organisation's provider, that it was begun with. Every request
looks it up, so one that was ended, a key that was revoked and a subject that was unbound hold at once. The browser
never gets the key, nor does the database get the token: a digest of it is kept (OWASP Session Management).
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from psycopg import errors as database_errors

from ai_admin.access.actors import Actor
from ai_admin.access.principals import Principal, principal_of_row
from ai_admin.access.tokens import digest
from ai_admin.audit import events
from ai_admin.audit.events import Action
from ai_admin.database import Connection, Database, Row
from ai_admin.errors import Unauthenticated
from ai_admin.sql import queries
from ai_admin.users.schemas import Status

COOKIE = "aia_session"
# The reason where a browser has no session at all.
NO_SESSION = "no session"
# A session that is not used ends after this time, and any after the longest.
IDLE = timedelta(hours=1)
LONGEST = timedelta(hours=8)
_TOKEN_BYTES = 32
_SQL = queries("sessions")


def begin(connection: Connection, by: Actor, caller: Principal, most: int) -> str:
    """Make a session of a caller who came with a key or an identity; returns its token, which is always a new one.

    `by` asked for it: nobody known until now. The user then has at most `most` sessions: the oldest ones end.

    Raises `Unauthenticated` where it would rest on nothing: a key that is revoked, a subject that is unbound.
    """
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    issuer, subject = caller.identity or (None, None)
    rests_on = {"key_id": caller.key_id, "key_digest": caller.key_digest, "issuer": issuer, "subject": subject}
    values = {"digest": digest(token), "user_id": caller.user_id, "idle": IDLE, **rests_on}
    connection.execute(_SQL["forget"])
    # Two that begin at once would each leave the other uncounted. The user may have been suspended since the credential
    # was looked up.
    if not connection.execute(_SQL["lock_user"], values).rowcount:
        raise Unauthenticated("user no longer active", caller.user_id)
    insert = _SQL["insert_of_identity" if caller.key_id is None else "insert"]
    if not connection.execute(insert, values).rowcount:
        raise Unauthenticated("key or subject gone meanwhile", caller.user_id)
    _record(connection, replace(by, audit_key=caller.audit_key), Action.SESSIONS_BEGIN, values)
    for ended in connection.execute(_SQL["end_oldest"], {**values, "most": most}).fetchall():
        _record_end(connection, by, ended)
    return token


def end(connection: Connection, by: Actor, token: str | None) -> None:
    """End the session of a token, if there is one; `by` came with the token and nothing else."""
    row = token and connection.execute(_SQL["delete"], {"digest": digest(token)}).fetchone()
    if row:
        _record_end(connection, by, row)


def end_of_user(connection: Connection, by: Actor, user_id: UUID) -> None:
    """End all sessions of a user whose status changes: none comes alive with the user again."""
    _record_end_by(connection, by, connection.execute(_SQL["end_of_user"], {"user_id": user_id}).fetchall())


def end_of_key(connection: Connection, by: Actor, key_id: UUID) -> None:
    """End all sessions of a key that is about to be revoked."""
    _record_end_by(connection, by, connection.execute(_SQL["end_of_key"], {"key_id": key_id}).fetchall())


def end_of_former_values(connection: Connection, by: Actor, key_id: UUID) -> None:
    """End the sessions of those values of a rotated key that no longer work."""
    _record_end_by(connection, by, connection.execute(_SQL["end_of_former_values"], {"key_id": key_id}).fetchall())


def _record_end_by(connection: Connection, by: Actor, ended: Sequence[Row]) -> None:
    """Write the events of sessions that another change has ended; `by` made that change."""
    for session in ended:
        key = {"key": str(session["key_id"])} if session["key_id"] else {}
        changes = {**key, **_rests_on(session)}
        events.about_user(connection, by, Action.SESSIONS_END, session["user_id"], None, changes)


def _record_end(connection: Connection, by: Actor, session: Row) -> None:
    # One that was over already has ended by itself.
    if not session["is_over"]:
        _record(connection, by, Action.SESSIONS_END, session)


def _record(connection: Connection, by: Actor, action: Action, session: Mapping[str, Any]) -> None:
    """Write the event of a session that begins or ends, by its user and about them."""
    by = replace(by, user_id=session["user_id"], key_id=session["key_id"])
    events.about_user(connection, by, action, session["user_id"], by.audit_key, _rests_on(session))


def _rests_on(session: Mapping[str, Any]) -> dict[str, object]:
    """How the user of a session signed in, as an event has it."""
    if session["key_id"] is not None:
        return {"signIn": "key"}
    return {"signIn": "provider", "identity": {"issuer": session["issuer"], "subject": session["subject"]}}


def principal_of(database: Database, token: str | None, issuer: str) -> Principal:
    """Whose session a token is; of those that rest on an identity, one of this issuer.

    Raises `Unauthenticated`, also where the user, the key or the issuer is out meanwhile.
    """
    if not token:
        raise Unauthenticated(NO_SESSION)
    values = {"digest": digest(token), "idle": IDLE, "longest": LONGEST, "issuer": issuer}
    with database.connection() as connection:
        row = connection.execute(_SQL["authenticate"], values).fetchone()
        if row is None:
            raise Unauthenticated("unknown session")
        # A user who is out has no session; that they are out is the better reason.
        if row["is_over"] and row["status"] == Status.ACTIVE:
            raise Unauthenticated("expired session", row["user_id"])
        if not row["rests_on_any"]:
            raise Unauthenticated("session of a former key or issuer", row["user_id"])
        identity = None if row["subject"] is None else (row["issuer"], row["subject"])
        caller = principal_of_row({**row, "identity": identity})
        if row["is_use_news"]:
            _note_use(connection, token)
    return caller


def _note_use(connection: Connection, token: str) -> None:
    """Prolong a session. A standby, which cannot, is no reason to refuse the request."""
    try:
        connection.execute(_SQL["note_use"], {"digest": digest(token), "idle": IDLE, "longest": LONGEST})
    except (database_errors.ReadOnlySqlTransaction, database_errors.LockNotAvailable):
        return
