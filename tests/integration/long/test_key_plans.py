"""What PostgreSQL does for each kind of request of the list of all keys, on 200,000 keys: plans are read."""

import httpx
import psycopg
import pytest

from tests.integration.long.test_plans import Recorder
from tests.integration.test_access import ALL_KEYS
from tests.integration.test_all_keys import SORTS
from tests.integration.test_key_rotation import later
from tests.integration.test_standing import as_admin


@pytest.fixture
def many(sql: psycopg.Connection) -> str:
    """Two hundred thousand keys of twenty thousand users; returns the id of one of those."""
    sql.execute(
        """
        INSERT INTO users (id, tag, name, name_key, kind, role, status, models, attributes, words)
        SELECT gen_random_uuid(), 'u' || n, 'x', 'x', 'service',
               CASE WHEN n % 2000 = 0 THEN 'admin' ELSE 'member' END, 'active', '{}', '{}', ''
        FROM generate_series(1, 20000) AS n
        """
    )
    sql.execute(
        """
        INSERT INTO api_keys (id, user_id, digest, name, last_four, scopes, created_at, expires_at, last_used_at)
        SELECT gen_random_uuid(), users.id, sha256((tag || n)::bytea), 'k', '0000',
               CASE n WHEN 1 THEN NULL WHEN 2 THEN '{secrets:reveal}'::text[] ELSE '{}' END,
               now() - random() * interval '100 days',
               CASE WHEN random() < 0.7 THEN now() + (random() - 0.3) * interval '100 days' END,
               CASE WHEN random() < 0.8 THEN now() - random() * interval '100 days' END
        FROM users, generate_series(1, 10) AS n
        WHERE tag <> 'zz-owner'
        """
    )
    sql.execute("ANALYZE users, api_keys")
    row = sql.execute("SELECT id::text FROM users WHERE tag = 'u7'").fetchone()
    assert row is not None
    return str(row[0])


@pytest.mark.in_process
def test_queries_of_all_keys_scan_no_table(api: httpx.Client, many: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a million keys, a filter without an index would stop the service."""
    soon, past = later(days=1), later(days=-99)
    filters: list[dict[str, str]] = [
        {},
        {"user": many},
        {"scope": "secrets:reveal"},
        {"scope": "audit:read"},
        {"state": "expired"},
        {"state": "active"},
        {"neverExpires": "true"},
        {"neverUsed": "true"},
        {"expiresAt[gte]": past, "expiresAt[lt]": soon},
        {"lastUsedAt[lt]": past, "neverUsed": "false"},
        {"createdAt[lt]": past},
    ]
    admin = as_admin(api)
    # Known to the process before plans are read.
    api.get(ALL_KEYS, headers=admin)
    recorder = Recorder(psycopg.Connection.execute, table="api_keys")
    monkeypatch.setattr(psycopg.Connection, "execute", lambda *values, **options: recorder(*values, **options))  # noqa: PLW0108
    for headers in (None, admin):
        for query in filters:
            for sort in SORTS:
                recorder.statements.clear()
                answer = api.get(ALL_KEYS, params={**query, "sort": sort, "size": "20"}, headers=headers)
                assert answer.status_code == 200
                lists = [each for each in recorder.statements if "#page" in each.sql]
                assert lists
                scans = {node["Node Type"] for each in lists for node in each.scans()}
                assert "Seq Scan" not in scans, (query, sort, recorder.describe())
                assert sum(each.rows() for each in lists) <= 16_000, (query, sort, recorder.describe())
