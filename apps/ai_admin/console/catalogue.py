"""The strings of the console: one gettext catalogue a language; English stands in the templates."""

import gettext as gnu
from functools import cache
from pathlib import Path

from flask import g, request

# By their tags (RFC 5646), each as its readers write it.
LANGUAGES = {"en": "English", "vi": "Tiếng Việt"}
COOKIE = "aia_language"
DOMAIN = "console"
# Characters of Accept-Language.
_LONGEST_LIST = 500
FOLDER = Path(__file__).with_name("translations")


@cache
def _translations(language: str) -> gnu.NullTranslations:
    return gnu.translation(DOMAIN, FOLDER, [language], fallback=language == "en")


def language() -> str:
    """The reader's language: the one they chose, or what their browser asks for."""
    if "language" not in g:
        chosen = request.cookies.get(COOKIE, "")
        g.language = chosen if chosen in LANGUAGES else _asked_for()
    return str(g.language)


def _asked_for() -> str:
    """What the browser asks for; a list of languages that no browser sends is not parsed."""
    if len(request.headers.get("Accept-Language", "")) > _LONGEST_LIST:
        return "en"
    return request.accept_languages.best_match(LANGUAGES, "en") or "en"


def gettext(message: str) -> str:
    """A string in the reader's language."""
    return _translations(language()).gettext(message)


def ngettext(one: str, many: str, number: int) -> str:
    """A string that counts, in the reader's language."""
    return _translations(language()).ngettext(one, many, number)


def N_(message: str) -> str:  # noqa: N802  the name that extraction knows
    """Mark a string for the catalogue that is translated where it is shown."""
    return message
