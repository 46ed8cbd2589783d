"""The console's pages. A page is entered with a session, its forms carry a token, and nothing is loaded from elsewhere.

Everything is GET or POST: Fission's triggers and plain HTML know no more. `transfer`, which only a server has, is a
blueprint of its own.
"""

from ai_admin.console.views import (
    account,
    all_keys,
    audit,
    bulk,
    files,
    keys,
    overview,
    provider,
    secrets,
    sign_in,
    user,
    users,
)
from ai_admin.console.views.pages import console

__all__ = [
    "account",
    "all_keys",
    "audit",
    "bulk",
    "console",
    "files",
    "keys",
    "overview",
    "provider",
    "secrets",
    "sign_in",
    "user",
    "users",
]
