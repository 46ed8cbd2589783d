"""What a request needs beside itself: settings, database, who calls and how often; made once for each application."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import BoundedSemaphore
from typing import cast

from flask import Flask, current_app

from ai_admin.access.principals import Principals
from ai_admin.access.rates import Rates
from ai_admin.audit.refusals import Refusals
from ai_admin.config import Settings
from ai_admin.database import Database
from ai_admin.errors import RateLimited
from ai_admin.totals import Estimates
from ai_admin.vault.mounted import MountedKeyRing

_EXTENSION = "ai_admin"


@dataclass(frozen=True)
class Services:
    """Made by `create_app`, found through `services()`."""

    settings: Settings
    database: Database
    key_ring: MountedKeyRing
    principals: Principals
    rates: Rates
    # Refusals that become events.
    refusals: Refusals
    # Credentials that are given out, a caller: far fewer than other requests.
    reveals: Rates
    # Changes by a caller with a scope for them, changes by a caller to what is their own, and sign-ins to the console.
    # Each leaves an event or a session, so they have rates of their own.
    writes: Rates
    own_writes: Rates
    sign_ins: Rates
    estimates: Estimates
    # What takes long and holds a connection of its own: files of users in and out, and verifications of the log.
    long_work: BoundedSemaphore

    def attach(self, app: Flask) -> None:
        """Make these the services of an application."""
        app.extensions[_EXTENSION] = self


def services() -> Services:
    """The services of the application that handles the current request."""
    return cast(Services, current_app.extensions[_EXTENSION])


@contextmanager
def one_of_few() -> Iterator[None]:
    """A place among the few things that may take long at once. Raises `RateLimited`."""
    places = services().long_work
    if not places.acquire(blocking=False):
        raise RateLimited("Other work that takes long is under way; wait, and send it again.")
    try:
        yield
    finally:
        places.release()
