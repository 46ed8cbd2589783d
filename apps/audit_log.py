"""Fission function `ai-admin-audit-log`: GET `/ai/admin/audit`."""

from flask import Response

from ai_admin import fission

# Made when the function is specialised, so that the first request does not wait for it.
application = fission.application()


def main() -> Response:
    """Read the audit log."""
    return fission.answer(application, "/ai/admin/audit")
