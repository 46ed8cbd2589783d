-- What the console's overview says beside its counts. Each is bounded, however large the tables are.

-- name: overview
SELECT (SELECT count(*) FROM (SELECT FROM audit_unsealed LIMIT 10001) AS counted) AS unsealed,
       (SELECT max(number) FROM audit_seals) AS seal;

-- name: expiring_keys
-- By the index on expires_at.
SELECT api_keys.id, api_keys.user_id, api_keys.name, api_keys.last_four, api_keys.expires_at
FROM api_keys
JOIN users ON users.id = api_keys.user_id
WHERE api_keys.expires_at > now()
  AND api_keys.expires_at <= now() + %(within)s
  AND users.role = ANY(%(roles)s)
ORDER BY api_keys.expires_at, api_keys.id
LIMIT %(most)s;
