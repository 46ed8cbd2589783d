"""The strings of the console: one gettext catalogue a language; English stands in the templates."""

import gettext as gnu
from functools import cache
from pathlib import Path

from flask import g, request

# By their tags (RFC 5646), each as its readers write it.
LANGUAGES = {"en": "English", "vi": "Tiếng Việt"}
COOKIE = "aia_language"
DOMAIN = "console"
FOLDER = Path(__file__).with_name("translations")


@cache
def _translations(language: str) -> gnu.NullTranslations:
    return gnu.translation(DOMAIN, FOLDER, [language], fallback=language == "en")


def language() -> str:
    """The reader's language: the one they chose, or what their browser asks for."""
    if "language" not in g:
        chosen = request.cookies.get(COOKIE, "")
        g.language = chosen if chosen in LANGUAGES else request.accept_languages.best_match(LANGUAGES, "en")
    return str(g.language)


def gettext(message: str) -> str:
    """A string in the reader's language."""
    return _translations(language()).gettext(message)


def ngettext(one: str, many: str, number: int) -> str:
    """A string that counts, in the reader's language."""
    return _translations(language()).ngettext(one, many, number)


def N_(message: str) -> str:  # noqa: N802  the name that extraction knows
    """Mark a string for the catalogue that is translated where it is shown."""
    return message
