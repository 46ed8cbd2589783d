"""Fission function `ai-admin-filter-create-user`: GET and POST `/ai/admin/users`."""

from flask import Response

from ai_admin import fission

# Made when the function is specialised, so that the first request does not wait for it.
application = fission.application()


def main() -> Response:
    """Find users, or create one."""
    return fission.answer(application, "/ai/admin/users")
