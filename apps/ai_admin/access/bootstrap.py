"""The first owner: whoever has the database may make one, for no password is there by default."""

from ai_admin.access.actors import service
from ai_admin.config import Settings
from ai_admin.database import Database
from ai_admin.keys import store
from ai_admin.keys.schemas import ApiKeyCreate
from ai_admin.sql import queries
from ai_admin.users import directory
from ai_admin.users.schemas import AiUserCreate, Kind, Role

_SQL = queries("keys")
# Any number, the same in every process: two starts at once make one owner.
_LOCK = 4_128_020_264_014


def make_owner(settings: Settings, tag: str, *, only_first: bool = False) -> str | None:
    """Make an owner with an API key, and return the key; it is shown nowhere else.

    With `only_first` nothing is done, and None returned, where any key exists. Raises `DuplicateTag`,
    `DatabaseUnavailable`, `SchemaOutdated`.
    """
    database = Database(settings)
    by = service("bootstrap")
    try:
        with database.transaction() as connection:
            connection.execute(_SQL["lock_bootstrap"], {"lock": _LOCK})
            row = connection.execute(_SQL["any"]).fetchone()
            if only_first and row is not None and row["exist"]:
                return None
            owner = AiUserCreate(tag=tag, name="Owner", kind=Kind.SERVICE, role=Role.OWNER)
            user = directory.create(connection, by, owner)
            _, key = store.create(connection, by, user["id"], ApiKeyCreate(name="First key"))
            return key
    finally:
        database.close()
