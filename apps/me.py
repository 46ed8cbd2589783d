"""Fission function `ai-admin-me`: GET `/ai/me`."""

from flask import Response

from ai_admin import fission

# Made when the function is specialised, so that the first request does not wait for it.
application = fission.application()


def main() -> Response:
    """Show who calls."""
    return fission.answer(application, "/ai/me")
