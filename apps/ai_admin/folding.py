"""Text as people look for it: without case, without diacritics, in words, whatever script it is in.

The database never folds: what it stores and what a query asks for both come from here, so the result does
not depend on a server's locale or ICU version. A change of these rules needs a migration that rewrites
`users.name_key` and `users.words`.
"""

import unicodedata

# Letters that Unicode does not decompose, with the base letters that people type for them.
_BASE_LETTERS = str.maketrans(
    {"đ": "d", "ð": "d", "ħ": "h", "ı": "i", "ł": "l", "ø": "o", "ŧ": "t", "æ": "ae", "œ": "oe", "þ": "th"}
)
# PostgreSQL refuses lexemes of 2 KiB; a word of a tag, email or name is at most 254 letters long.
_LONGEST_WORD = 200
_LONGEST_KEY = 200


def fold(text: str) -> str:
    """Fold for comparing: NFKD, combining marks dropped, case folded (Unicode 3.13, D145), base letters.

    `fold("Đặng Thị Ánh") == "dang thi anh"`, `fold("ＡＢＣ") == "abc"`.
    """
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    plain = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    return unicodedata.normalize("NFKC", plain.translate(_BASE_LETTERS)).casefold()


def sort_key(text: str) -> str:
    """The folded text as lists sort by it and prefixes are looked up in it, cut to the length of an index entry.

    Some characters fold to eighteen; a B-tree takes entries of a third of a page, 2704 bytes.
    """
    return fold(text)[:_LONGEST_KEY]


class _Separators(dict[int, int | str]):
    """For `str.translate`: letters, marks and digits stay, all else separates words. Filled as letters are met."""

    def __missing__(self, code: int) -> int | str:
        # Marks too: a vowel of an Indic or Thai word is one, and stands in the word's middle.
        self[code] = code if unicodedata.category(chr(code))[0] in "LMN" else " "
        return self[code]


_SEPARATORS = _Separators()


def words(*texts: str | None) -> list[str]:
    """The distinct folded words of all texts: runs of letters and digits, sorted."""
    found = {word[:_LONGEST_WORD] for text in texts if text for word in fold(text).translate(_SEPARATORS).split()}
    return sorted(found)
