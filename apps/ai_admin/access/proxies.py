"""Trusted proxies, and the address of a caller as far as they tell it.

`X-Forwarded-For` can be sent by anybody. It is read from the right, where the nearest proxy has written, and only as
far as each address is a trusted proxy: what stands left of the first other address was sent by a caller.
"""

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address
# More than proxies stand before a service, and few enough to read in no time.
_MOST_PROXIES = 32
# An address with a port, as some proxies write it: `192.0.2.1:4711`, `[2001:db8::1]:4711`, `[2001:db8::1]`.
_WITH_PORT = re.compile(r"([0-9.]+):[0-9]{1,5}|\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?")


def networks(text: str) -> list[Network]:
    """The addresses and networks (CIDR) of a setting, separated by spaces. Raises ValueError that says what to do."""
    return [_network(part) for part in text.split()]


def _network(text: str) -> Network:
    try:
        network = ip_network(text)
    except ValueError:
        example = "write it as 10.0.0.7, 10.0.0.0/16 or 2001:db8::/32"
        raise ValueError(f"{text!r} is no address or network: {example}") from None
    if network.prefixlen == 0:
        raise ValueError(f"{text!r} is every address, so any caller could name another: name the proxies alone")
    return network


def source_of(peer: str, forwarded: str, trusted: Sequence[Network]) -> str:
    """The right-most address that is no trusted proxy; `peer` is the connection's, `forwarded` the header.

    Where a proxy has written something else than an address, such as `unknown`, the source is that proxy. Where all
    are trusted, it is the left-most of them.
    """
    # A link-local address names its interface too (RFC 4007, 11).
    source = _address(peer.partition("%")[0])
    if source is None or not _is_trusted(source, trusted):
        return peer
    for text in reversed(forwarded.rsplit(",", _MOST_PROXIES)):
        address = _address(text.strip(" \t"))
        if address is None:
            break
        source = address
        if not _is_trusted(address, trusted):
            break
    return str(source)


def _is_trusted(address: Address, trusted: Sequence[Network]) -> bool:
    return any(address in network for network in trusted)


def _address(text: str) -> Address | None:
    """The address; IPv4 written as IPv6 (RFC 4291, 2.5.5.2) is IPv4. None for anything else."""
    port = _WITH_PORT.fullmatch(text)
    try:
        address = ip_address(port[1] or port[2] if port else text)
    except ValueError:
        return None
    # The name of an interface could be any text, and means nothing on another machine.
    if isinstance(address, IPv6Address):
        return None if address.scope_id else address.ipv4_mapped or address
    return address
