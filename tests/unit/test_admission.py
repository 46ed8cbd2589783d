"""Which bodies are collected, how many bytes of them a process holds, and requests that run twice."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask, Response, request

from ai_admin.access.rates import Rates
from ai_admin.asgi import AsgiApplication
from ai_admin.errors import ApiError, Overloaded, RateLimited
from ai_admin.http import admission
from ai_admin.http.admission import SMALL_BYTES, Bodies, Budget, Held

LARGE = SMALL_BYTES + 1
LIMIT = 100_000


def test_budget_beyond_all_callers_is_overloaded() -> None:
    """Callers who each keep their share must not take more memory than the process has for bodies."""
    budget = Budget(10, a_caller=4)
    for caller in "abc":
        budget.take(caller, 3)
    with pytest.raises(Overloaded):
        budget.take("d", 2)
    budget.give_back("a", 3)
    budget.take("d", 2)
    assert budget.held == 8


@pytest.mark.parametrize(("caller", "error"), [("a", RateLimited), (None, Overloaded)])
def test_budget_beyond_one_caller_leaves_room_for_others(caller: str | None, error: type[ApiError]) -> None:
    """One caller with a credential, or all without, must not keep others from sending bodies."""
    budget = Budget(10, a_caller=4)
    budget.take(caller, 4)
    with pytest.raises(error):
        budget.take(caller, 1)
    budget.take("b", 4)


def test_held_grows_and_gives_everything_back() -> None:
    """Bytes that a request does not give back are lost until the process ends."""
    budget = Budget(10, a_caller=99)
    with Held(budget, "a") as held:
        held.cover(4)
        held.cover(2)
        assert budget.held == 4
        held.cover(9)
        with pytest.raises(Overloaded):
            held.cover(11)
        assert budget.held == 9
    assert budget.held == 0


def test_bodies_small_ones_have_a_quarter() -> None:
    """Strangers who fill the quarter get others judged by the head; they keep nobody from being admitted."""
    bodies = Bodies(8 * SMALL_BYTES)
    held = [bodies.hold_small(SMALL_BYTES, "") for _ in range(2)]
    assert all(held)
    assert bodies.hold_small(1, "") is None
    with bodies.hold_admitted("a") as admitted:
        admitted.cover(2 * SMALL_BYTES)
        with pytest.raises(RateLimited):
            admitted.cover(2 * SMALL_BYTES + 1)
    assert held[0]
    with held[0]:
        pass
    assert bodies.hold_small(1, "")


@pytest.mark.parametrize(("size", "expects"), [(LARGE, ""), (None, ""), (1, "100-continue")])
def test_bodies_others_than_small_ones_wait_for_admission(size: int | None, expects: str) -> None:
    """A body that is large, of unknown size, or not sent before it is asked for takes no memory for a stranger."""
    assert Bodies(1 << 20).hold_small(size, expects) is None


class Caller:
    """A caller of an application: sends these parts of a body, and hears what is answered."""

    def __init__(self, *parts: bytes, length: int | None = None, path: str = "/body", **headers: str) -> None:
        """A chunked body where no length is declared."""
        self.unsent = list(parts)
        self.sent: list[dict[str, Any]] = []
        # Set once the application waits for a part that does not come.
        self.is_awaited = asyncio.Event()
        size = {"transfer-encoding": "chunked"} if length is None else {"content-length": str(length)}
        headers = {"host": "x", **size, **headers}
        self._scope = {
            "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"",
            "http_version": "1.1", "scheme": "http", "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1),
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }  # fmt: skip

    async def ask(self, application: AsgiApplication) -> tuple[int, bytes]:
        """The answer's status and body."""
        await application(self._scope, self._receive, self._send)
        return self.sent[0]["status"], b"".join(message.get("body", b"") for message in self.sent)

    @property
    def is_told_to_close(self) -> bool:
        """Whether the answer ends the connection."""
        return (b"connection", b"close") in self.sent[0]["headers"]

    async def _receive(self) -> dict[str, Any]:
        if not self.unsent:
            self.is_awaited.set()
            await asyncio.Event().wait()
        part = self.unsent.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(self.unsent)}

    async def _send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)


def application(view: Callable[[], Response], *, body_timeout_s: float = 20) -> tuple[AsgiApplication, list[str]]:
    """One whose route /body has this view, and the paths that it was run for."""
    app, runs = Flask(__name__), list[str]()
    app.add_url_rule("/body", view_func=view, methods=["POST"])
    app.before_request(lambda: runs.append(request.path))
    app.register_error_handler(ApiError, lambda error: Response(error.code.value, error.status))
    made = AsgiApplication(
        app, threads=1, max_body_bytes=LIMIT, body_timeout_s=body_timeout_s, body_memory_bytes=4 * LIMIT
    )
    return made, runs


def echo() -> Response:
    """How long the body is."""
    return Response(str(len(request.stream.read())))


@pytest.mark.parametrize(
    ("size", "declared", "expects", "runs"),
    [
        (SMALL_BYTES, True, "", 1),
        (SMALL_BYTES + 1, True, "", 2),
        (LIMIT, True, "", 2),
        (10, False, "", 2),
        (10, True, "100-continue", 2),
    ],
)
def test_application_reads_every_body_whole(size: int, declared: bool, expects: str, runs: int) -> None:
    """However a body comes in, it is there whole; only small ones cost no second run."""
    made, ran = application(echo)
    parts = [b"x" * 10] * (size // 10) + [b"x" * (size % 10)]
    caller = Caller(*parts, length=size if declared else None, expect=expects)
    assert asyncio.run(caller.ask(made)) == (200, str(size).encode())
    assert len(ran) == runs
    assert not caller.is_told_to_close


def test_application_that_answers_by_the_head_leaves_the_body_unread() -> None:
    """What strangers send must take no memory: the answer comes before the first byte of the body is received."""
    made, ran = application(echo)
    caller = Caller(b"x" * 10, length=LARGE, path="/elsewhere")
    status, _ = asyncio.run(caller.ask(made))
    assert (status, len(ran), len(caller.unsent)) == (404, 1, 1)
    assert caller.is_told_to_close


def test_application_takes_one_token_for_two_runs() -> None:
    """A caller must not be limited to half of their rate because their bodies are large."""
    rates = Rates(1)

    def view() -> Response:
        admission.require(rates, "a")
        return echo()

    made, runs = application(view)
    statuses = [asyncio.run(Caller(b"x" * LARGE, length=LARGE).ask(made))[0] for _ in range(2)]
    assert (statuses, len(runs)) == ([200, 200], 4)


def test_application_stops_a_chunked_body_at_the_limit_of_its_route() -> None:
    """A body without a declared length must not take more memory than the route has a use for."""

    def view() -> Response:
        admission.limit_body(20)
        return echo()

    made, _ = application(view)
    caller = Caller(*[b"x" * 10] * 9)
    assert asyncio.run(caller.ask(made)) == (200, b"30")
    assert len(caller.unsent) == 6


def test_application_bounds_what_callers_hold() -> None:
    """A caller beyond their share gets 429, one beyond the budget 503, and both are served once others are done."""

    def view() -> Response:
        admission.admit(request.headers["Caller"])
        return echo()

    made, _ = application(view, body_timeout_s=600)

    def caller(name: str, *parts: bytes) -> Caller:
        return Caller(*parts, length=LIMIT, caller=name)

    async def check() -> None:
        slow = [caller(name) for name in "abc"]
        waiting = [asyncio.create_task(each.ask(made)) for each in slow]
        for each in slow:
            await each.is_awaited.wait()
        assert await caller("a", b"x" * LIMIT).ask(made) == (429, b"RATE_LIMITED")
        assert await caller("d", b"x" * LIMIT).ask(made) == (503, b"OVERLOADED")
        waiting[0].cancel()
        await asyncio.wait([waiting[0]])
        assert await caller("d", b"x" * LIMIT).ask(made) == (200, str(LIMIT).encode())
        for task in waiting:
            task.cancel()

    asyncio.run(asyncio.wait_for(check(), 20))
    assert made._bodies._admitted.held == 0


@pytest.mark.parametrize("size", [10, LARGE])
def test_application_gives_up_a_body_that_does_not_come(size: int) -> None:
    """A caller who stops sending must give back what they hold."""
    made, _ = application(echo, body_timeout_s=0.01)
    status, said = asyncio.run(Caller(length=size).ask(made))
    assert (status, said) == (408, b"REQUEST_TIMEOUT")
    assert (made._bodies._small.held, made._bodies._admitted.held) == (0, 0)
