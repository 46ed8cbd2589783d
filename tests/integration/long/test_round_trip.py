"""An import of an export gives the same directory, whoever is in it: users that hypothesis makes up."""

import io
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as trials
from hypothesis import strategies as st

from ai_admin.embedded import EmbeddedPostgres
from ai_admin.transfer.importing import Summary, import_users
from tests.integration.test_export import BY, contents, exported
from tests.serving import own_database

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
# What spreadsheets, CSV and JSON have a meaning of their own for.
AWKWARD = st.sampled_from(
    ["=1+1", "'=1", "''=", "'x", "-1", "+a", "@b", 'a"b', '"', "a,b;c\td", " x ", "null", "1e5", "ẞß", "Ǆ", "مرحبا"]
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
USER = st.fixed_dictionaries(
    {
        "tag": st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}", fullmatch=True),
        "kind": st.just("service"),
        "name": TEXT | AWKWARD | st.builds("{}{}".format, AWKWARD, TEXT),
    },
    optional={
        "email": st.from_regex(r"[a-z+='-]{1,8}@[a-z]{1,8}\.example", fullmatch=True),
        "role": st.sampled_from(["member", "admin", "auditor", "owner"]),
        "status": st.sampled_from(["active", "suspended"]),
        "models": st.lists(st.from_regex(r"[A-Za-z0-9*@][A-Za-z0-9._:/@+*-]{0,10}", fullmatch=True), max_size=3),
        "attributes": st.dictionaries(TEXT | AWKWARD, JSON | AWKWARD, max_size=3),
    },
)


@pytest.mark.parametrize("form", ["csv", "ndjson"])
@given(users=st.lists(USER, max_size=30))
@trials(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
def test_an_import_of_an_export_gives_the_same_directory(
    postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory, form: str, users: list[dict[str, Any]]
) -> None:
    """Whom the API takes an export holds and an import gives back, member for member; a second one changes nothing."""
    folder: Path = tmp_path_factory.mktemp("round-trip")
    file = io.BytesIO(b"".join(orjson.dumps(user, option=orjson.OPT_APPEND_NEWLINE) for user in users))
    with own_database(postgres, folder / "one") as one, own_database(postgres, folder / "other") as other:
        # Those with a name that nobody may have, or with a tag or address of another one, are left out here.
        made = import_users(one, BY, file, "ndjson").summary
        written = exported(one, form)
        known = made.created
        again = import_users(other, BY, io.BytesIO(written), form)
        assert again.summary == Summary(records=known + 1, created=known, unchanged=1), list(again.rejects(other))
        theirs, ours = contents(other), contents(one)
        assert [user | {"version": 1} for user in ours] == theirs
        back = import_users(one, BY, io.BytesIO(written), form)
        assert back.summary == Summary(records=known + 1, unchanged=known + 1)
