-- What each key has sealed in one registered column, and sealing it anew. The names in braces are the column's.
-- Each goes by the index on (vault_key_id, primary key), which knows the order that is asked for here.

-- name: keys
-- One step of the recursion finds the next key by the index, however many rows a key has.
WITH RECURSIVE keys AS (
    (
        SELECT vault_key_id({column}) COLLATE "C" AS id
        FROM {table}
        ORDER BY 1
        LIMIT 1
    )
    UNION ALL
    SELECT (
        SELECT vault_key_id({column}) COLLATE "C"
        FROM {table}
        WHERE vault_key_id({column}) COLLATE "C" > keys.id
        ORDER BY 1
        LIMIT 1
    )
    FROM keys
    WHERE keys.id IS NOT NULL
)
SELECT id
FROM keys
WHERE id IS NOT NULL;

-- name: count
SELECT count(*)
FROM {table}
WHERE vault_key_id({column}) COLLATE "C" = %(key_id)s;

-- name: writers
-- Transactions that have locked a row, or written one, and have not ended: whoever seals does so in such a one. Of
-- another role's connections pg_stat_activity hides nearly all; their locks it shows.
SELECT DISTINCT virtualtransaction AS id, pid
FROM pg_locks
WHERE locktype = 'relation'
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND mode IN ('RowShareLock', 'RowExclusiveLock')
  AND pid <> pg_backend_pid();

-- name: batch
-- The comparison of both together, and not of the primary key alone: that one's own index has its order too, and
-- would be walked from end to end for the few rows that are left.
SELECT {primary_key}, {column}{bound}
FROM {table}
WHERE (vault_key_id({column}) COLLATE "C", {primary_key}) > (%(key_id)s, %(after)s)
  AND vault_key_id({column}) COLLATE "C" <= %(key_id)s
ORDER BY vault_key_id({column}) COLLATE "C", {primary_key}
LIMIT %(rows)s;

-- name: count_unbound
SELECT vault_key_id({column}) COLLATE "C" AS id, count(*) AS number
FROM {table}
WHERE substring({column} FROM 1 FOR 1) = '\x01'
GROUP BY 1;

-- name: unbound_batch
SELECT {primary_key}, {column}{bound}
FROM {table}
WHERE substring({column} FROM 1 FOR 1) = '\x01'
  AND vault_key_id({column}) COLLATE "C" = %(key_id)s
  AND {primary_key} > %(after)s
ORDER BY {primary_key}
LIMIT %(rows)s;

-- name: reseal
-- A row that has changed meanwhile stays as it is. One that somebody else has locked is left for the next pass:
-- whoever waits for nobody while holding locks is in no deadlock, so no request fails by the rotation.
UPDATE {table}
SET {column} = mine.resealed
FROM (
    SELECT {table}.{primary_key} AS key, given.resealed
    FROM unnest(%(keys)b, %(sealed)b, %(resealed)b) AS given (key, sealed, resealed)
    JOIN {table} ON {table}.{primary_key} = given.key AND {table}.{column} = given.sealed
    FOR NO KEY UPDATE OF {table} SKIP LOCKED
) AS mine
WHERE {table}.{primary_key} = mine.key;
