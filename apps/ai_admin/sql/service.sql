-- Queries of the service about itself.

-- name: schema_version
SELECT version_num
FROM alembic_version;

-- name: table_estimate
-- The planner's idea of a table's size, kept current by autovacuum.
SELECT GREATEST(reltuples, 0)::bigint AS rows
FROM pg_class
WHERE oid = to_regclass(%(table)s);
