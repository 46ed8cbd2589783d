"""Which user a subject of an identity provider is: found, bound once by a verified email, or by an operator."""

from dataclasses import replace
from uuid import UUID

from ai_admin.access.actors import Actor
from ai_admin.audit import events
from ai_admin.audit.events import Action
from ai_admin.database import Connection, Row
from ai_admin.errors import UserNotFound
from ai_admin.sql import queries

_SQL = queries("identities")


def find(connection: Connection, issuer: str, subject: str) -> Row | None:
    """The user of a subject, whatever their status; None where it is bound to nobody."""
    return connection.execute(_SQL["find"], {"issuer": issuer, "subject": subject}).fetchone()


def bind_by_email(connection: Connection, by: Actor, issuer: str, subject: str, email: str) -> None:
    """Bind a subject to the active auditor or member of this verified address (ASCII) who has no subject yet, if any.

    Those who bind to one user follow one another on the row's lock, and only the first of them finds it unbound.
    """
    user = connection.execute(_SQL["lock_unbound"], {"email": email.lower()}).fetchone()
    if user is None:
        return
    values = {"issuer": issuer, "subject": subject, "user_id": user["id"], "email": email.lower()}
    if connection.execute(_SQL["bind_once"], values).rowcount:
        if by.user_id is None:
            by = replace(by, user_id=user["id"], audit_key=user["audit_key"])
        _record(connection, by, Action.IDENTITIES_BIND, user, issuer, subject)


def bind(connection: Connection, by: Actor, tag: str, issuer: str, subject: str) -> list[str]:
    """Bind a subject to a user of any role; returns the tags of those who so lost one.

    It takes the place of the user's subject of that issuer, and is taken from the user whose it was. Raises
    `UserNotFound`, and ValueError where issuer or subject is empty.
    """
    if not issuer or not subject:
        raise ValueError("An identity has an issuer and a subject")
    user = connection.execute(_SQL["lock_tag"], {"tag": tag.lower()}).fetchone()
    if user is None:
        raise UserNotFound(f"There is no user with the tag {tag}.")
    # After the user's row, in the order of `bind_by_email`.
    connection.execute(_SQL["lock_identities"])
    present = find(connection, issuer, subject)
    if present is not None and present["user_id"] == user["id"]:
        return []
    values = {"issuer": issuer, "subject": subject, "user_id": user["id"]}
    former = connection.execute(_SQL["unbind"], values).fetchall()
    connection.execute(_SQL["bind"], values)
    for one in former:
        _record(connection, by, Action.IDENTITIES_UNBIND, one, issuer, one["subject"])
    _record(connection, by, Action.IDENTITIES_BIND, user, issuer, subject)
    return [one["tag"] for one in former]


def unbind_from_others(connection: Connection, by: Actor, user_id: UUID, audit_key: bytes | None) -> None:
    """Take away the subjects that another address than the user's has bound, before the user may do more.

    An administrator may have lent them that address for a moment, and signed in. What an operator has bound stays.
    """
    user = {"id": user_id, "audit_key": audit_key}
    for row in connection.execute(_SQL["unbind_from_others"], {"user_id": user_id}).fetchall():
        _record(connection, by, Action.IDENTITIES_UNBIND, user, row["issuer"], row["subject"])


def _record(connection: Connection, by: Actor, action: Action, user: Row, issuer: str, subject: str) -> None:
    identity = {"issuer": issuer, "subject": subject}
    gone = action == Action.IDENTITIES_UNBIND
    change = {"before": identity if gone else None, "after": None if gone else identity}
    events.about_user(connection, by, action, user["id"], user["audit_key"], {"identity": change})
