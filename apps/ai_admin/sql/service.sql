-- Queries of the service about itself.

-- name: schema_version
SELECT version_num
FROM alembic_version;

-- name: is_read_only
-- A standby, and what ALTER SYSTEM, a database or a role says of transactions to come.
SELECT current_setting('transaction_read_only')::boolean AS is_read_only;
