"""Each function asked through Fission's router: whether it answers, as which version, and how fast.

Every route is asked with OPTIONS, which the application answers without a credential, and by GET where a route has no
OPTIONS. Nothing is changed.
"""

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import httpx

from ai_admin import __version__
from ai_admin.access.tokens import make_key
from ai_admin.http.cors import VERSION_HEADER

# Longer than a pod takes that is up, in seconds; a cold start through the router may take longer and is asked again.
_TIMEOUT_S = 15
_PARAMETER = re.compile(r"\{(\w+)(?::[^}]*)?\}")
# What stands for the parameters of a path. The console's pages are `{Path:.+}`.
_PARAMETERS = {"Path": "sign-in"}
_ANY_ID = "00000000-0000-7000-8000-000000000000"
_ME = "/ai/me"


@dataclass(frozen=True)
class Route:
    """A path of a function with its methods, as an HTTPTrigger has them."""

    function: str
    path: str
    methods: frozenset[str]


@dataclass(frozen=True)
class Report:
    """What a function answered: `fault` is empty where all is well, and `version` where none of its answers has one."""

    function: str
    routes: int
    state: str
    version: str = ""
    milliseconds: float = 0.0
    fault: str = ""

    def described(self) -> dict[str, object]:
        """The report as an object for programs."""
        return asdict(self)


def routes_of(documents: Iterable[Mapping[str, Any]]) -> dict[str, list[Route]]:
    """The routes of each function of a folder of specs; a function that a timer alone calls has none."""
    found: dict[str, list[Route]] = {}
    for document in documents:
        if document["kind"] == "Function":
            found.setdefault(document["metadata"]["name"], [])
        elif document["kind"] == "HTTPTrigger":
            spec = document["spec"]
            route = Route(spec["functionref"]["name"], spec["relativeurl"], frozenset(spec["methods"]))
            found.setdefault(route.function, []).append(route)
    return found


class Unreachable(Exception):
    """No answer at all comes from the address."""


def ask(client: httpx.Client, function: str, routes: list[Route]) -> Report:
    """Ask every route of a function. Raises `Unreachable` where nothing listens at the address."""
    if not routes:
        return Report(function, 0, "not asked", fault="")
    versions, slowest = set(), 0.0
    for route in routes:
        began = time.perf_counter()
        answer, fault = _answer(client, route)
        slowest = max(slowest, (time.perf_counter() - began) * 1000)
        if answer is not None and VERSION_HEADER in answer.headers:
            versions.add(answer.headers[VERSION_HEADER])
        if fault:
            return Report(function, len(routes), "fails", ", ".join(sorted(versions)), round(slowest, 1), fault)
    version = ", ".join(sorted(versions))
    if versions - {__version__}:
        fault = f"answers as version {version}, not {__version__}: its pods have not been replaced yet"
        return Report(function, len(routes), "fails", version, round(slowest, 1), fault)
    return Report(function, len(routes), "answers", version, round(slowest, 1))


def _answer(client: httpx.Client, route: Route) -> tuple[httpx.Response | None, str]:
    """The answer to a route's question, and what is wrong with it."""
    path = _PARAMETER.sub(lambda name: _PARAMETERS.get(name[1], _ANY_ID), route.path)
    method = "OPTIONS" if "OPTIONS" in route.methods else "GET"
    try:
        answer = client.request(method, path)
        fault = _fault(answer, method, route)
        if not fault and route.path == _ME:
            fault = _of_database(client.get(path, headers={"Authorization": f"Bearer {make_key()}"}))
    except httpx.ConnectError as error:
        raise Unreachable(str(error)) from None
    except httpx.TimeoutException:
        return None, f"{method} {route.path}: no answer within {_TIMEOUT_S} seconds; see the logs of its pod"
    except httpx.HTTPError as error:
        return None, f"{method} {route.path}: {error}"
    return answer, f"{method} {route.path}: {fault}" if fault else ""


def _fault(answer: httpx.Response, method: str, route: Route) -> str:
    status = answer.status_code
    if method == "OPTIONS" and status == httpx.codes.NO_CONTENT and VERSION_HEADER in answer.headers:
        lacking = route.methods - {each.strip() for each in answer.headers.get("Allow", "").split(",")}
        return f"the function does not know {', '.join(sorted(lacking))} there" if lacking else ""
    if method == "GET" and (status == httpx.codes.OK or _leads_to_sign_in(answer)):
        return ""
    return _told(answer)


def _leads_to_sign_in(answer: httpx.Response) -> bool:
    return answer.is_redirect and "/ai/admin/console/" in answer.headers.get("Location", "")


def _of_database(answer: httpx.Response) -> str:
    """What is wrong where a key that nobody has is answered with anything but its refusal: it is looked up first."""
    return "" if answer.status_code == httpx.codes.UNAUTHORIZED else _told(answer)


_ADVICE = {
    404: "the router has no such route; apply the stage to the Fission behind this address",
    405: "the route lacks this method; apply the stage again",
    500: "the function does not start or fails; see the logs of its pod, mostly a setting that is missing or wrong",
    502: "the router reaches no pod of the function; see its pods",
    503: "no pod of the function is ready yet; see its pods",
    504: "the function did not answer in time; see the logs of its pod",
}


def _told(answer: httpx.Response) -> str:
    """An answer that is not the expected one, and what to do."""
    try:
        problem = answer.json()
        return f"{answer.status_code} {problem['errorCode']}, {problem['detail']}"
    except (ValueError, KeyError, TypeError):
        advice = _ADVICE.get(answer.status_code, "something else answers at this address")
        return f"{answer.status_code}, {advice}"


def client(url: str) -> httpx.Client:
    """A client of the router at this address. Raises ValueError where it is none."""
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ValueError(str(error)) from None
    if parts.scheme not in {"http", "https"} or not parts.host:
        raise ValueError("an address begins with http:// or https://, such as http://127.0.0.1:8888")
    return httpx.Client(base_url=url.rstrip("/"), timeout=_TIMEOUT_S, headers={"User-Agent": "ai-admin"})
