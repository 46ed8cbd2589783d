"""The schema and how it came to be: forward-only Alembic revisions, run by `ai_admin.migrate`."""
