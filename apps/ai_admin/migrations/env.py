"""Alembic's entry: runs the revisions on the connection that `ai_admin.migrate` hands over."""

from alembic import context

connection = context.config.attributes["connection"]
# Each revision commits by itself, so that one that builds an index CONCURRENTLY can step out of the
# transaction (`op.get_context().autocommit_block()`) and a failure leaves the earlier ones in place.
context.configure(connection=connection, transaction_per_migration=True)
with context.begin_transaction():
    context.run_migrations()
