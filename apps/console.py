"""Fission function `ai-admin-console`: `/ai/admin/console` and all that is below it."""

from flask import Response

from ai_admin import fission
from ai_admin.console.views import console

# Made when the function is specialised, so that the first request does not wait for it.
application = fission.application(console)


def main() -> Response:
    """Serve the console's pages and files."""
    return fission.answer_below(application, "/ai/admin/console")
