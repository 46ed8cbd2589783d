"""The modules beside the functions keep the names that the first version gave to others' code."""

import pytest

import helpers
import schemas
from ai_admin.config import ROOT_VARIABLE, Settings


def test_helpers(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection to the database that the Secret names, single settings, and the CORS headers."""
    monkeypatch.setenv(ROOT_VARIABLE, str(settings.root))
    with helpers.init_db_connection() as connection:
        assert connection.execute("SELECT current_database() AS name").fetchone() == {
            "name": settings.secret.pg_database
        }
    assert helpers.get_secret("PG_DATABASE") == settings.secret.pg_database
    assert helpers.get_config("LOG_LEVEL") is None
    assert helpers.CORS_HEADERS["Access-Control-Allow-Origin"] == "*"


def test_schemas() -> None:
    """The models of a user to create and to change."""
    assert schemas.AiUserCreate(tag="Ada", email="ada@example.com").tag == "ada"
    assert schemas.AiUserUpdate.model_validate({"name": "Ada"}).sent() == {"name": "Ada"}
