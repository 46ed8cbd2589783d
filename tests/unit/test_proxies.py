"""Trusted proxies: which address of `X-Forwarded-For` is believed, and which settings are refused."""

import pytest

from ai_admin.access.proxies import networks, source_of

TRUSTED = networks("10.0.0.0/8 192.0.2.10 2001:db8:1::/48 fe80::/10")
CALLER = "203.0.113.7"


@pytest.mark.parametrize(
    ("peer", "forwarded", "source"),
    [
        # No proxy of ours: nothing that the caller sends is read.
        (CALLER, "", CALLER),
        (CALLER, "198.51.100.1", CALLER),
        (CALLER, "10.0.0.1", CALLER),
        ("", "198.51.100.1", ""),
        ("not an address", "198.51.100.1", "not an address"),
        # One proxy, and several, with what the caller has made up on the left.
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", CALLER, CALLER),
        ("10.0.0.1", f"198.51.100.1, {CALLER}", CALLER),
        ("10.0.0.1", f"198.51.100.1,{CALLER} ,\t10.0.0.2,192.0.2.10", CALLER),
        ("192.0.2.10", f"10.0.0.9, {CALLER}, 10.0.0.2", CALLER),
        # All trusted: a caller inside the network.
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        # Ports, IPv6, and IPv4 written as IPv6.
        ("10.0.0.1", f"{CALLER}:4711", CALLER),
        ("10.0.0.1", "[2001:db8:2::7]:4711", "2001:db8:2::7"),
        ("10.0.0.1", "[2001:db8:2::7]", "2001:db8:2::7"),
        ("10.0.0.1", "2001:DB8:2:0::7", "2001:db8:2::7"),
        ("2001:db8:1::1", f"::ffff:{CALLER}, 2001:db8:1::2", CALLER),
        ("::ffff:10.0.0.1", CALLER, CALLER),
        ("fe80::1%eth0", CALLER, CALLER),
        # What is no address is never the source, nor is what stands left of it.
        ("10.0.0.1", "unknown", "10.0.0.1"),
        ("10.0.0.1", f"{CALLER}, unknown", "10.0.0.1"),
        ("10.0.0.1", f"{CALLER}, unknown, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", f"{CALLER}, ", "10.0.0.1"),
        ("10.0.0.1", ",", "10.0.0.1"),
        ("10.0.0.1", f"{CALLER},,", "10.0.0.1"),
        ("10.0.0.1", f"for={CALLER}", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.007", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.7/32", "10.0.0.1"),
        ("10.0.0.1", "3405803783", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.7:x", "10.0.0.1"),
        ("10.0.0.1", "fe80::1%any text", "10.0.0.1"),
        ("10.0.0.1", "\u0662\u0660\u0663.0.113.7", "10.0.0.1"),
        ("10.0.0.1", "\x00", "10.0.0.1"),
        # More than are read: the caller's is not among them.
        ("10.0.0.1", CALLER + ", 10.0.0.2" * 100_000, "10.0.0.2"),
    ],
)
def test_source_is_the_rightmost_address_that_is_no_trusted_proxy(peer: str, forwarded: str, source: str) -> None:
    """A caller would choose the address that stands in the log, or make a request fail with a header."""
    assert source_of(peer, forwarded, TRUSTED) == source


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("10.0.0.0/8, 10.1.0.0/16", "'10.0.0.0/8,' is no address or network"),
        ("proxy.example", "write it as 10.0.0.7, 10.0.0.0/16 or 2001:db8::/32"),
        ("10.0.0.1/8", "'10.0.0.1/8' is no address or network"),
        ("0.0.0.0/0", "name the proxies alone"),
        ("::/0", "name the proxies alone"),
    ],
)
def test_networks_of_a_wrong_setting_say_what_to_write(text: str, told: str) -> None:
    """A setting that trusts nobody, or everybody, would be noticed after the first forged address."""
    with pytest.raises(ValueError, match=told.replace(".", r"\.")):
        networks(text)


def test_networks_of_nothing_are_none() -> None:
    """Without the setting nothing changes."""
    assert networks(" ") == []
