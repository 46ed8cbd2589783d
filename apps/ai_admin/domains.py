"""International domain names (IDNA) in email addresses: one form of each, in ASCII."""

import unicodedata

# Versions of IDNA make different domains of these: sharp s and final sigma.
_AMBIGUOUS = frozenset("\u00df\u1e9e\u03c2")


def ascii_domain(address: object) -> object:
    """Return an address with its domain in ASCII (RFC 3490): `ada@bücher.example` as `ada@xn--bcher-kva.example`.

    All else is returned as it is, for the validation to judge: a domain that is ASCII already, a domain that has no
    such form, and a domain with a letter that is another form of an ASCII one, such as a full-width A.
    """
    if not isinstance(address, str) or address.isascii():
        return address
    user, at, domain = address.rpartition("@")
    if not at or any(_is_disguised(letter) for letter in domain):
        return address
    try:
        labels = [label if label.isascii() else label.encode("idna").decode() for label in domain.split(".")]
    except UnicodeError:
        return address
    return f"{user}@{'.'.join(labels)}"


def _is_disguised(letter: str) -> bool:
    """Whether the IDNA form may be a domain that this letter only looks like, or leaves the letter out."""
    if letter.isascii():
        return False
    is_invisible = unicodedata.category(letter)[0] not in "LMN"
    return letter in _AMBIGUOUS or is_invisible or unicodedata.normalize("NFKC", letter).isascii()
