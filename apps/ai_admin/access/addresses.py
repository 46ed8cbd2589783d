"""Addresses that the service itself calls: https, and http where nothing leaves the machine."""

import ipaddress
from urllib.parse import urlsplit


def require_https(url: str) -> None:
    """Raise ValueError unless this is a plain https URL, or an http one of a loopback address."""
    parts = urlsplit(url)
    if parts.username is not None or parts.fragment or not parts.hostname or not url.isprintable() or " " in url:
        raise ValueError("must be a plain URL without user name and fragment")
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(parts.hostname)):
        raise ValueError("must begin with https:// unless it is on a loopback address")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
