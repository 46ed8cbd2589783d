"""Folding: the one rule by which names are sorted and looked for."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ai_admin.folding import fold, sort_key, words

# The same examples in each run, and no limit of time on a busy machine.
FIXED = settings(derandomize=True, deadline=None)


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("", ""),
        ("Ada Lovelace", "ada lovelace"),
        ("Đặng Thị Ánh", "dang thi anh"),
        ("Zoë", "zoe"),
        ("Łódź", "lodz"),
        ("Ærøskøbing", "aeroskobing"),
        ("Þórr", "thorr"),
        ("Straße", "strasse"),
        ("İstanbul Iğdır", "istanbul igdir"),
        ("ＡＢＣ１２", "abc12"),
        ("ﬁnance", "finance"),
        ("K", "k"),
        ("Ⅷ", "viii"),
        ("ΌΣΟΣ", "οσοσ"),
        ("Ёлка", "елка"),
        ("ガラス", "カラス"),
        ("김민수", "김민수"),
        ("مُحَمَّد", "محمد"),
        ("😀 x", "😀 x"),
    ],
)
def test_fold(text: str, folded: str) -> None:
    """What people type without accents, capitals or the right width finds what is written with them."""
    assert fold(text) == folded


def test_ascii_takes_no_other_rule() -> None:
    """The short way for ASCII gives what the long way gives, beside a letter that is not."""
    ascii_letters = "".join(map(chr, range(128)))
    assert fold(ascii_letters + "é") == fold(ascii_letters) + "e"


def test_composed_and_decomposed_are_the_same() -> None:
    """The same name from a Mac and from Windows is found alike."""
    assert fold("Zoe\u0308") == fold("Zo\u00eb")
    assert fold("\u1112\u1161\u11ab") == fold("\ud55c")


@FIXED
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_fold_is_stable(text: str) -> None:
    """What is folded stays as it is: a folded name can be folded again, as a prefix or a cursor, without harm."""
    assert fold(fold(text)) == fold(text)
    assert fold(text.upper()) == fold(text.upper().lower()) or not text.isascii()


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        (("ada.lovelace", "ada@example.com", "Ada Lovelace"), ["ada", "com", "example", "lovelace"]),
        (("a_b-c", None, "d"), ["a", "b", "c", "d"]),
        (("x", None, "李 小龍"), ["x", "小龍", "李"]),
        (("x", None, "O'Brien & Sons: *!|()<->\\"), ["brien", "o", "sons", "x"]),
        (("x7", None, "٣ 100%"), ["100", "x7", "٣"]),
        ((None, "", "😀 !?"), []),
    ],
)
def test_words(texts: tuple[str | None, ...], found: list[str]) -> None:
    """Words are runs of letters and digits in any script; what has a meaning in a tsquery is none of them."""
    assert words(*texts) == found


@FIXED
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_words_are_harmless(text: str) -> None:
    """No word can end the quotes it is put in, be empty, or be longer than a lexeme may be."""
    for word in words(text):
        assert word
        assert not set(word) & set("'\\&|!():*<> \t\n\0_")
        assert len(word.encode()) < 2046


def test_a_word_longer_than_a_lexeme_is_cut() -> None:
    """PostgreSQL refuses lexemes of 2 KiB; such a word is found by its beginning."""
    (word,) = words("\U00020000" * 3000)
    assert word == "\U00020000" * 200


def test_a_sort_key_fits_into_an_index() -> None:
    """A B-tree takes entries of a third of a page; a name of 200 characters may fold to 3,600."""
    assert sort_key("Zo\u00eb") == "zoe"
    for letter in ("\ufdfa", "\u3316", "\U00020000"):
        assert 0 < len(sort_key(letter * 200).encode()) < 2704


@pytest.mark.parametrize("word", ["चोपरा", "สมชาย", "தமிழ்"])
def test_vowel_signs_stand_inside_words(word: str) -> None:
    """Vowels of Indic and Thai scripts are marks: a word that is cut at them is found by its second half."""
    assert len(words(word)) == 1
    assert words(f"{word} {word}") == words(word)
