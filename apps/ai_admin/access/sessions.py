"""Sessions of the console: who has signed in once stands behind a random token in a cookie for some time.

A session rests on the API key, or on the identity at the organisation's provider, that it was begun with. Every request
looks it up, so one that was ended, a key that was revoked and a subject that was unbound hold at once. The browser
never gets the key, nor does the database get the token: a digest of it is kept (OWASP Session Management).
"""

import secrets
from datetime import timedelta

from psycopg import errors as database_errors

from ai_admin.access.principals import Principal, principal_of_row
from ai_admin.access.tokens import digest
from ai_admin.database import Connection, Database
from ai_admin.errors import Unauthenticated
from ai_admin.sql import queries

COOKIE = "aia_session"
# A session that is not used ends after this time, and any after the longest.
IDLE = timedelta(hours=1)
LONGEST = timedelta(hours=8)
_TOKEN_BYTES = 32
_SQL = queries("sessions")


def begin(connection: Connection, caller: Principal, most: int) -> str:
    """Make a session of a caller who came with a key or an identity; returns its token, which is always a new one.

    The user then has at most `most` sessions: the oldest ones end.

    Raises `Unauthenticated` where it would rest on nothing: a key that is revoked, a subject that is unbound.
    """
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    issuer, subject = caller.identity or (None, None)
    rests_on = {"key_id": caller.key_id, "key_digest": caller.key_digest, "issuer": issuer, "subject": subject}
    values = {"digest": digest(token), "user_id": caller.user_id, "idle": IDLE, **rests_on}
    connection.execute(_SQL["forget"])
    # Two that begin at once would each leave the other uncounted.
    connection.execute(_SQL["lock_user"], values)
    insert = _SQL["insert_of_identity" if caller.key_id is None else "insert"]
    if not connection.execute(insert, values).rowcount:
        raise Unauthenticated("key or subject gone meanwhile", caller.user_id)
    connection.execute(_SQL["end_oldest"], {**values, "most": most})
    return token


def end(connection: Connection, token: str | None) -> None:
    """End the session of a token, if there is one."""
    if token:
        connection.execute(_SQL["delete"], {"digest": digest(token)})


def principal_of(database: Database, token: str | None, issuer: str) -> Principal:
    """Whose session a token is; of those that rest on an identity, one of this issuer.

    Raises `Unauthenticated`, also where the user, the key or the issuer is out meanwhile.
    """
    if not token:
        raise Unauthenticated("no session")
    values = {"digest": digest(token), "idle": IDLE, "longest": LONGEST, "issuer": issuer}
    with database.connection() as connection:
        row = connection.execute(_SQL["authenticate"], values).fetchone()
        if row is None:
            raise Unauthenticated("unknown session")
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
