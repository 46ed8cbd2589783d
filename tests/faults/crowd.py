"""Many connections that each send most of a body and then stop."""

import itertools
import resource
import selectors
import socket
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack

# Part of a declared body that is sent.
_MOST = 0.95
# Seconds for which the connections stay open once everything is sent and no more answers come.
_STAY_S = 2.0
_MOST_S = 20.0
_PART = memoryview(bytes(1 << 16))
_FILES = 8_192


def send_most(port: int, number: int, path: str, size: int, keys: Sequence[str] = ()) -> Counter[str]:
    """Open so many connections at once, send most of a body of `size` bytes on each, and count the answers by status.

    A connection without an answer counts as `none`. The connections present the keys in turn, if there are any.
    Takes 22 seconds at most.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(_FILES, most) if most != resource.RLIM_INFINITY else _FILES, most))
    lines = [f"POST {path} HTTP/1.1", "Host: x", "Content-Type: application/json", f"Content-Length: {size}"]
    credentials = [[f"Authorization: Bearer {key}"] for key in keys] or [[]]
    heads = ["\r\n".join([*lines, *credential, "", ""]).encode() for credential in credentials]
    with ExitStack() as stack:
        connections = [stack.enter_context(socket.create_connection(("127.0.0.1", port), 20)) for _ in range(number)]
        callers = [_Caller(*pair, int(size * _MOST)) for pair in zip(connections, itertools.cycle(heads), strict=False)]
        selector = stack.enter_context(selectors.DefaultSelector())
        for caller in callers:
            selector.register(caller.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, caller)
        ends = time.monotonic() + _MOST_S
        stays: float | None = None
        while selector.get_map() and time.monotonic() < min(stays or ends, ends):
            happened = selector.select(0.1)
            for key, events in happened:
                key.data.go_on(events, selector)
            # A server that is still answering is waited for.
            if (stays is None or happened) and not any(caller.unsent for caller in callers):
                stays = time.monotonic() + _STAY_S
    return Counter(caller.status for caller in callers)


class _Caller:
    """One connection: what is still to be sent, and the status that came back."""

    def __init__(self, connection: socket.socket, head: bytes, size: int) -> None:
        self.socket = connection
        self.status = "none"
        self.unsent = size
        connection.sendall(head)
        connection.setblocking(False)

    def go_on(self, events: int, selector: selectors.BaseSelector) -> None:
        """Read what has come and send what there is room for; an end of the connection does not hide an answer."""
        try:
            if events & selectors.EVENT_WRITE:
                self.unsent -= self.socket.send(_PART[: self.unsent])
                if not self.unsent:
                    selector.modify(self.socket, selectors.EVENT_READ, self)
        except OSError:
            events |= selectors.EVENT_READ
        if events & selectors.EVENT_READ:
            try:
                said = self.socket.recv(4096)
            except BlockingIOError:
                return
            except ConnectionError:
                said = b""
            if said.startswith(b"HTTP/1.1 "):
                self.status = said[9:12].decode()
            else:
                self._end(selector)

    def _end(self, selector: selectors.BaseSelector) -> None:
        self.unsent = 0
        selector.unregister(self.socket)
