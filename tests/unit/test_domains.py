"""International domains of email addresses have one form, and none that can be taken for an ASCII one."""

import pytest

from ai_admin.domains import ascii_domain


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        ("ada@example.com", "ada@example.com"),
        ("ada@b\u00fccher.example", "ada@xn--bcher-kva.example"),
        ("ada@B\u00dcCHER.example", "ada@xn--bcher-kva.example"),
        ("ada@bu\u0308cher.example", "ada@xn--bcher-kva.example"),
        ("ada@\u043f\u043e\u0447\u0442\u0430.\u0440\u0444", "ada@xn--80a1acny.xn--p1ai"),
    ],
)
def test_ascii_domain_of_international_domain_is_its_idna_form(address: str, kept: str) -> None:
    """One person would be two users: one by each form of the address."""
    assert ascii_domain(address) == kept


@pytest.mark.parametrize(
    "address",
    [
        "ada@\uff41b.example", "ada@example\u3002com", "ada@e\u212a.example", "ada@stra\u00dfe.example",
        "ada@\ufb01.example", "ada@ada\u200b.example", "\u00e4@example.com", "b\u00fccher.example",
        "ada@" + "\u00fc" * 64 + ".example",
    ],
)  # fmt: skip
def test_ascii_domain_of_disguised_letters_leaves_the_address(address: str) -> None:
    """An address would become another one that it only looks like; validation refuses it as it is."""
    assert ascii_domain(address) == address


def test_ascii_domain_of_no_text_leaves_the_value() -> None:
    """A number as an address would be a fault of the service, and no answer that names the member."""
    assert ascii_domain(1) == 1
