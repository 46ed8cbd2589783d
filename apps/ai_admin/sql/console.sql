-- What the console's overview says beside its counts. Each is bounded, however large the tables are.

-- name: overview
SELECT (SELECT count(*) FROM (SELECT FROM audit_unsealed LIMIT 10001) AS counted) AS unsealed,
       (SELECT max(number) FROM audit_seals) AS seal;
