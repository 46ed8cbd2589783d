"""Fission function `ai-admin-authorize`: GET `/ai/authorize`."""

from flask import Response

from ai_admin import fission

# Made when the function is specialised, so that the first request does not wait for it.
application = fission.application()


def main() -> Response:
    """Let a gateway's subrequest pass, or not."""
    return fission.answer(application, "/ai/authorize")
