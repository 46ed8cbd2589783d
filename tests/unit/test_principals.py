"""What is remembered of a credential."""

from datetime import datetime, timedelta, timezone
from typing import Any, cast

import pytest

from ai_admin.access.actors import Actor
from ai_admin.access.principals import Principals
from ai_admin.config import ConfigSettings
from ai_admin.database import Database
from ai_admin.errors import Unauthenticated
from tests.conftest import OWNER_ID, OWNER_KEY


def _nobody() -> Actor:
    return Actor("a request")


def test_a_key_that_ends_while_it_is_remembered_is_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The principal is made once for as long as the key is remembered; its end does not wait for that."""
    row: dict[str, Any] = {
        "user_id": OWNER_ID,
        "tag": "owner",
        "kind": "human",
        "role": "owner",
        "status": "active",
        "models": [],
        "scopes": None,
        "key_id": OWNER_ID,
        "key_models": None,
        "expires_at": datetime.now(timezone.utc) + timedelta(hours=1),
        "audit_key": None,
    }
    principals = Principals(cast(Database, None), ConfigSettings(CREDENTIAL_CACHE_S=5))
    monkeypatch.setattr(principals, "_find", lambda _token, _who: row)
    assert principals.of_token(OWNER_KEY, _nobody) is principals.of_token(OWNER_KEY, _nobody)
    row["expires_at"] = datetime.now(timezone.utc)
    with pytest.raises(Unauthenticated) as refused:
        principals.of_token(OWNER_KEY, _nobody)
    assert refused.value.reason == "expired key"
