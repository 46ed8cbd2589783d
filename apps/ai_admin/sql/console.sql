-- What the console's overview says beside its counts. Each is bounded, however large the tables are.

-- name: overview
SELECT (SELECT count(*) FROM (SELECT FROM audit_unsealed LIMIT 10001) AS counted) AS unsealed,
       (SELECT max(number) FROM audit_seals) AS seal;

-- name: expiring_keys
-- By the index on expires_at.
SELECT id, user_id, name, last_four, expires_at
FROM api_keys
WHERE expires_at > now()
  AND expires_at <= now() + %(within)s
ORDER BY expires_at, id
LIMIT %(most)s;
