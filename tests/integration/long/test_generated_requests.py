"""Requests that are generated from the OpenAPI document: the service does what it says."""

import sys
from typing import Any

import pytest
import schemathesis
from flask import Flask
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import Status, events, from_schema
from schemathesis.schemas import BaseSchema

from ai_admin.listing import COUNTED
from ai_admin.transfer.views import IMPORT
from ai_admin.users.schemas import LARGEST_PAGE
from tests.conftest import AS_OWNER, flask_client
from tests.integration.test_openapi import DOCUMENT, USER
from tests.serving import OFTEN

# Each operation gets this many generated requests, half of them invalid, besides examples and edge cases.
GENERATED = 15
# What schemathesis may see where it sent only valid data. Its default has 401, 403, 429 and 5xx too, which are
# faults here; 412 and 422 are conflicts with what was stored before, as 409 is, and no schema can foresee them.
ACCEPTED = ["2xx", "3xx", 404, 409, 412, 422]
# Schemathesis for Python 3.10 stopped at 4.30, which runs out of stack where it builds sequences with nested JSON.
SEQUENCES = sys.version_info >= (3, 11)


@pytest.mark.config(REVEALS_PER_SECOND="10000", **OFTEN)
@pytest.mark.filterwarnings("ignore:Generating overly large repr")
def test_schemathesis_finds_nothing(server_app: Flask) -> None:
    """The service does what its document says, and the document says what the service does.

    All checks run in all phases: examples, edge cases, generated data both valid and invalid, and sequences of
    requests that build on each other's answers. The same requests are sent each time.
    """
    schemathesis.serializer.alias("application/x-ndjson", "text/plain")
    schema = schemathesis.openapi.from_wsgi(DOCUMENT, server_app, config=_config())
    _teach(schema, server_app)
    findings: list[str] = []
    requests = 0
    for event in from_schema(schema).execute():
        if isinstance(event, events.ScenarioFinished):
            requests += len(event.recorder.interactions)
            findings += _failures(event)
        elif isinstance(event, events.NonFatalError | events.FatalError):
            findings.append(f"{event!r} {getattr(event, 'value', '')!r} {getattr(event, 'info', '')!r}")
        elif isinstance(event, events.PhaseFinished):
            assert event.phase.is_enabled or not SEQUENCES, f"{event.phase.name} did not run: {event.phase.skip_reason}"
    assert not findings, "\n\n".join(findings)
    assert requests > 500


def _config() -> SchemathesisConfig:
    return SchemathesisConfig.from_dict(
        {
            "headers": AS_OWNER,
            "seed": 1,
            # A busy machine is no fault of the schema.
            "suppress-health-check": ["too_slow"],
            "generation": {"deterministic": True, "max-examples": GENERATED, "database": "none"},
            "phases": {"stateful": {"enabled": SEQUENCES}},
            "checks": {
                "enabled": True,
                # Fails in itself where the application is called without a socket; test_access.py tries each route.
                "ignored_auth": {"enabled": False},
                # The last schemathesis for 3.10 leaves Authorization out and sends the configured one all the same;
                # no other header is required, and test_access.py leaves it out on each route.
                "missing_required_header": {"enabled": SEQUENCES},
                "positive_data_acceptance": {"expected-statuses": ACCEPTED},
            },
        }
    )


def _failures(event: events.ScenarioFinished) -> list[str]:
    found = []
    for case_id, checks in event.recorder.checks.items():
        interaction = event.recorder.interactions.get(case_id)
        for check in checks:
            if check.status is Status.FAILURE and check.failure_info is not None:
                request = interaction and interaction.request
                sent = f"{request.method} {request.uri}\n{request.headers}\n{request.body!r}" if request else ""
                got = interaction.response.content if interaction and interaction.response else b""
                found.append(f"{check.name}: {check.failure_info.failure.message}\n{sent}\n{got!r}")
    return found


def _send_example(schema: BaseSchema, case: Any) -> None:
    """Make the body of an import the document's example, and its format that of the example."""
    content = schema.raw_schema["paths"][IMPORT]["post"]["requestBody"]["content"]
    case.body = content[case.media_type]["examples"]["example1"]["value"]
    form = {"format": "keycloak"} if case.media_type == "application/json" else {}
    kept = {name: value for name, value in (case.query or {}).items() if name not in {"format", "encoding"}}
    case.query = kept | form


def _stay_near(query: dict[str, Any]) -> None:
    """Take out of a query what leads to a page that nobody can foresee, or that is too far."""
    query.pop("cursor", None)
    if int(query.get("page", 1)) * min(int(query.get("size", 20)), LARGEST_PAGE) > COUNTED:
        query.pop("page")


def _is_json_of_unsaid_format(case: Any, response: Any) -> bool:
    is_refused = case.operation.path == IMPORT and response.status_code == 415
    return is_refused and case.media_type == "application/json" and "format" not in (case.query or {})


def _has_taken_nothing(case: Any, response: Any) -> bool:
    """Whether an import has refused every record, as it says in its report: what is no user in a file is no error."""
    if case.operation.path != IMPORT or response.status_code != 200:
        return False
    report = response.json()
    return bool(report["records"] == report["rejected"])


def _make_grantable(schema: BaseSchema, case: Any) -> None:
    if case.path == IMPORT:
        _send_example(schema, case)
    if case.method == "GET":
        _stay_near(case.query or {})
    if isinstance(case.body, dict) and "keys" in case.path:
        case.body.pop("expiresAt", None)
        case.body.pop("scopes", None)


def _teach(schema: BaseSchema, app: Flask) -> None:
    """Tell schemathesis the rules that JSON Schema has no words for."""

    @schema.hook
    def map_case(context: Any, case: Any) -> Any:  # noqa: ARG001
        """Valid requests are what the service can grant.

        They name no cursor, which it makes, no page beyond row 10,000, no time gone by, and no scope that the
        user's role does not give. A file that they send is of the format that they say.
        """
        if case.meta and case.meta.generation.mode.is_positive:
            _make_grantable(schema, case)
        return case

    @schema.hook
    def filter_failure(context: Any, failure: Any, case: Any, response: Any) -> bool:  # noqa: ARG001
        """Keep every finding but four that are the contract, each looked at in the answer itself.

        A deleted user is still found, marked as deleted, and comes back by a change of status. So reading one
        is no use after free, and what a change must contain depends on the user that it meets. Of JSON an import has
        to be told the format; an example as it stands in the document is sent without. A file's records are answered
        in the report of the import.
        """
        if _is_json_of_unsaid_format(case, response) or _has_taken_nothing(case, response):
            return False
        if case.operation.path != USER:
            return True
        if failure.code == "ST301":  # use after free
            found = flask_client(app).get(failure.usage.partition(" ")[2])
            return found.status_code != 200 or found.get_json()["status"] != "deleted"
        if case.method == "PUT" and response.status_code == 400:
            places = {tuple(fault["loc"]) for fault in response.json().get("details", []) if fault["type"] == "missing"}
            return not places or not places <= {("body", "status"), ("body", "email")}
        return True
