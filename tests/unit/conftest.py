"""A verifier of tokens, the provider that it asks, and its clock."""

from collections.abc import Iterator

import pytest

from ai_admin.access import identity
from ai_admin.access.identity import IdentityProvider
from tests.identity_provider import AUDIENCE, ISSUER, Clock, Provider, serving


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    """A provider with a key of each kind, whose id is the name of its algorithm."""
    # On a busy machine three seconds are not long.
    monkeypatch.setattr(identity, "_TIMEOUT_S", 20.0)
    with serving(Provider()) as provider:
        yield provider


@pytest.fixture
def clock() -> Clock:
    """The time at which `claims()` were issued."""
    return Clock()


@pytest.fixture
def verifier(provider: Provider, clock: Clock) -> IdentityProvider:
    """What is tested, before its first fetch."""
    return IdentityProvider(ISSUER, AUDIENCE, provider.url, now=clock)
