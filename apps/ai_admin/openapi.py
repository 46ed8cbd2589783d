"""The OpenAPI 3.1.0 document of an application, made from its routes, what they say of themselves and the models.

Nothing is written twice: paths come from Flask's map of routes, texts from `@describe` and docstrings, schemas
from the Pydantic models (`models_json_schema`), errors from the exception classes.
"""

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from itertools import groupby
from typing import Annotated, Any

import orjson
from flask import Flask
from openapi_pydantic.v3 import v3_1 as oas
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from ai_admin import __version__
from ai_admin.access.guard import ERRORS as GUARD_ERRORS
from ai_admin.access.scopes import Scope
from ai_admin.credentials.schemas import NAME
from ai_admin.errors import ApiError, BadRequest, Detail, ErrorCode, InternalError, RequestInvalid, RouteNotFound
from ai_admin.etags import ENTITY_TAG
from ai_admin.http.answers import JSON
from ai_admin.http.models import ProblemDetail
from ai_admin.http.problems import PROBLEM, problem_body
from ai_admin.http.request_log import FORM as REQUEST_ID_FORM
from ai_admin.http.request_log import HEADER as REQUEST_ID
from ai_admin.operations import Header, Operation, operation_of
from ai_admin.reference import ASSETS
from ai_admin.transfer.views import MEDIA_TYPES
from ai_admin.users.schemas import JSON_VALUE_SCHEMA, AiUser

Schema = dict[str, Any]

_EXTENSION = "ai_admin.openapi"
_REF = "#/components/schemas/{model}"
_METHODS = ("GET", "POST", "PUT", "DELETE")
_UUID = "01890a5d-ac96-774b-bcce-b302099a8057"
_ABOUT = f"""\
The user directory of an AI platform: who may use which models, and proof of it.

Members and parameters are in camelCase, times are RFC 3339 in UTC, ids are UUIDs. Operations on users refuse a
body member or a query parameter that is not described here, and name it. Every answer carries `{REQUEST_ID}`.

Every error is a problem (RFC 9457, `{PROBLEM}`) whose `errorCode` is one of a closed list. Besides
those each operation names, a path that is not here answers 404 `NOT_FOUND`, and a method that its path does not
have answers 405 `METHOD_NOT_ALLOWED` with the header `Allow`."""

_BEARER = "bearer"
_REQUEST_ID_FORM = f"^{REQUEST_ID_FORM}$"
# `*` or entity tags with commas between them (RFC 9110, 8.8.3 and 13.1). Blanks at the ends are not of the value.
_ENTITY_TAGS: Schema = {"anyOf": [{"const": "*"}, {"pattern": rf"^{ENTITY_TAG}(?:[ \t]*,[ \t]*{ENTITY_TAG})*$"}]}
_HEADER_SCHEMAS: Mapping[str, Schema] = {"If-Match": _ENTITY_TAGS, "If-None-Match": _ENTITY_TAGS}

# Path parameters that are no id.
_PATH_SCHEMAS: Mapping[str, Schema] = {
    "asset": {"type": "string", "enum": sorted(ASSETS)},
    "Name": {"type": "string", "pattern": f"^{NAME}$", "examples": ["openai"]},
}
# How a repeated parameter and `name[key]=value` are written (OpenAPI 3.1.0, 4.8.12.3).
_STYLES: Mapping[str, Mapping[str, Any]] = {
    "array": {"style": "form", "explode": True},
    "object": {"style": "deepObject", "explode": True},
}
# What an answer without a model is where it has a body; otherwise it has none.
_BODIES: Mapping[str, tuple[str, ...]] = {
    "transfer.export_file": tuple(MEDIA_TYPES.values()),
    "metrics.scrape": ("text/plain",),
    "front.icon": ("image/svg+xml",),
    "reference.openapi_document": (JSON,),
    "reference.docs_page": ("text/html",),
    "reference.docs_asset": tuple(sorted({asset.media_type for asset in ASSETS.values()})),
}


class UndescribedRoute(Exception):
    """A route of the application cannot be put into the document."""


class Problem(BaseModel):
    """An error: a problem (RFC 9457) with the members `errorCode`, `details` and `requestId` on top."""

    model_config = ConfigDict(extra="forbid")

    type: Annotated[
        str, Field(json_schema_extra={"format": "uri-reference"}, description="Where this kind of error is explained.")
    ]
    title: Annotated[str, Field(description="The kind of error in words; the same for each of its kind.")]
    status: Annotated[int, Field(ge=400, le=599, description="The HTTP status, once more.")]
    detail: Annotated[str, Field(description="What went wrong this time.")]
    errorCode: Annotated[ErrorCode, Field(description="The kind of error, for programs.")]  # noqa: N815
    requestId: Annotated[  # noqa: N815
        str,
        Field(pattern=_REQUEST_ID_FORM, description=f"The answer's `{REQUEST_ID}`; the log holds it too."),
    ]
    details: Annotated[
        list[ProblemDetail], Field(default_factory=list, description="Each fault of a request that is not valid.")
    ]


class _Schemas(GenerateJsonSchema):
    """JSON Schemas with members in the order of the models, and without the titles that Pydantic makes of names."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002  the signature is Pydantic's
        return False

    def sort(self, value: Schema, parent_key: str | None = None) -> Schema:  # noqa: ARG002
        return value


@dataclass(frozen=True)
class _Route:
    """A method of a path, with its view and what the view says."""

    endpoint: str
    tag: str
    path: str
    method: str
    arguments: tuple[str, ...]
    view: Callable[..., Any]
    operation: Operation


def document(app: Flask) -> bytes:
    """The document as JSON, built at the first call for an application. Raises `UndescribedRoute`."""
    if _EXTENSION not in app.extensions:
        app.extensions[_EXTENSION] = orjson.dumps(build(app))
    built: bytes = app.extensions[_EXTENSION]
    return built


def build(app: Flask) -> dict[str, Any]:
    """The document of all routes of the application. Raises `UndescribedRoute` for a route without `@describe`."""
    routes = _routes(app)
    schemas = _model_schemas(routes)
    queries = {route.operation.query.__name__ for route in routes}
    components = {name: _schema(schema) for name, schema in sorted(schemas.items()) if name not in queries}
    whole = oas.OpenAPI(
        openapi="3.1.0",
        info=oas.Info(title="AI Admin", version=__version__, description=_ABOUT),
        servers=[oas.Server(url="/")],
        tags=_tags(routes),
        paths=_paths(routes, schemas),
        components=oas.Components(schemas=components, headers=_headers(), securitySchemes={_BEARER: _bearer()}),
    )
    # Unset members stay out. The warnings would be of schemas that stand in the document as they are.
    built: dict[str, Any] = whole.model_dump(mode="json", by_alias=True, exclude_unset=True, warnings=False)
    return built


def _routes(app: Flask) -> list[_Route]:
    """The described routes in the order of their blueprints, then by path and method."""
    found = [
        _Route(
            rule.endpoint,
            rule.endpoint.rpartition(".")[0] or app.name,
            re.sub(r"<(?:[^<>:]+:)?(\w+)>", r"{\1}", rule.rule),
            method,
            tuple(sorted(rule.arguments)),
            app.view_functions[rule.endpoint],
            _described(app, rule.endpoint),
        )
        for rule in app.url_map.iter_rules()
        if rule.endpoint.rpartition(".")[2] != "static" and not _described(app, rule.endpoint).page
        # HEAD and OPTIONS are HTTP's business: every path answers them.
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    ]
    blueprints = [*app.blueprints, app.name]
    return sorted(found, key=lambda route: (blueprints.index(route.tag), route.path, _METHODS.index(route.method)))


def _described(app: Flask, endpoint: str) -> Operation:
    operation = operation_of(app, endpoint)
    if operation is None:
        raise UndescribedRoute(f"The view of {endpoint} has no @describe")
    return operation


def _model_schemas(routes: Iterable[_Route]) -> dict[str, Schema]:
    """The JSON Schema of every model that the routes name, and of those within them, by component name."""
    models: dict[type[BaseModel], None] = {Problem: None}
    for route in routes:
        operation = route.operation
        named = (operation.query, operation.body, *operation.answers.values())
        models |= {model: None for model in named if model is not None}
    _, schema = models_json_schema(
        [(model, "validation") for model in models],
        by_alias=True,
        ref_template=_REF,
        schema_generator=_Schemas,
    )
    definitions: dict[str, Schema] = schema["$defs"]
    return {"JsonValue": JSON_VALUE_SCHEMA, **definitions}


def _schema(definition: Schema) -> oas.Schema:
    """A JSON Schema as it is: if it were validated, bounds of 64-bit integers would become floats."""
    return oas.Schema.model_construct(**definition)


def _reference(model: type[BaseModel]) -> oas.Reference:
    return oas.Reference.model_validate({"$ref": _REF.format(model=model.__name__)})


def _tags(routes: Iterable[_Route]) -> list[oas.Tag]:
    """One tag a blueprint; what it is for is the first paragraph of its module."""
    modules = {route.tag: sys.modules[route.view.__module__] for route in routes}
    return [
        oas.Tag(name=tag, description=(inspect.getdoc(module) or tag).partition("\n\n")[0])
        for tag, module in modules.items()
    ]


def _paths(routes: Iterable[_Route], schemas: Mapping[str, Schema]) -> dict[str, oas.PathItem]:
    return {
        path: oas.PathItem.model_validate({route.method.lower(): _operation(route, schemas) for route in group})
        for path, group in groupby(routes, key=lambda route: route.path)
    }


def _operation(route: _Route, schemas: Mapping[str, Schema]) -> oas.Operation:
    operation = route.operation
    described = oas.Operation(
        tags=[route.tag],
        summary=operation.summary,
        description=inspect.getdoc(route.view) or operation.summary,
        operationId=to_camel(route.view.__name__),
        responses=_responses(route),
    )
    parameters: list[oas.Parameter | oas.Reference] = [
        *(_path_parameter(name) for name in route.arguments),
        *_query_parameters(schemas[operation.query.__name__]),
        *(_header_parameter(header) for header in operation.headers),
    ]
    if parameters:
        described.parameters = parameters
    entry = operation.entry
    if entry != "public":
        # With another type than OAuth2 the list names what the caller must be allowed (OpenAPI 3.1.0, 4.8.30).
        described.security = [{_BEARER: [entry.value] if isinstance(entry, Scope) else []}]
    if operation.body is not None:
        described.requestBody = _request_body(operation, operation.body, schemas)
    elif operation.upload:
        described.requestBody = oas.RequestBody(required=True, content=_files(operation.upload))
    return described


# Parameters (OpenAPI 3.1.0, 4.8.12)


def _parameter(place: str, name: str, schema: Schema, **more: Any) -> oas.Parameter:
    given = {"in": place, "name": name, "required": place == "path", "schema": _schema(schema), **more}
    return oas.Parameter.model_validate(given)


def _path_parameter(name: str) -> oas.Parameter:
    """A parameter of the path: an id, as all whose names end in ID are, or one of those named above."""
    if name.endswith("ID"):
        return _parameter("path", name, {"type": "string", "format": "uuid"}, example=_UUID)
    if name not in _PATH_SCHEMAS:
        raise UndescribedRoute(f"The path parameter {name} has no schema")
    return _parameter("path", name, _PATH_SCHEMAS[name])


def _query_parameters(model: Schema) -> list[oas.Parameter]:
    return [_query_parameter(name, member) for name, member in model.get("properties", {}).items()]


def _query_parameter(name: str, member: Schema) -> oas.Parameter:
    schema = _not_null(member)
    more: dict[str, Any] = dict(_STYLES.get(schema.get("type", ""), {}))
    if "description" in schema:
        more["description"] = schema.pop("description")
    if "examples" in schema:
        more["example"] = schema.pop("examples")[0]
    return _parameter("query", name, schema, **more)


def _not_null(member: Schema) -> Schema:
    """The schema without null: a query parameter that is not there is left out."""
    schema = dict(member)
    if {"type": "null"} in schema.get("anyOf", ()):
        (only,) = (choice for choice in schema.pop("anyOf") if choice != {"type": "null"})
        schema = {**only, **schema}
        del schema["default"]
    return schema


def _header_parameter(header: Header) -> oas.Parameter:
    form = {"pattern": header.pattern} if header.pattern else _HEADER_SCHEMAS.get(header.name, {})
    schema = {"type": "string", **form}
    return _parameter("header", header.name, schema, description=header.meaning, example=header.example)


def _files(upload: Mapping[str, object]) -> dict[str, oas.MediaType]:
    return {
        media_type: oas.MediaType(
            media_type_schema=_schema({"type": "object" if media_type == JSON else "string"}),
            examples={"example1": oas.Example(summary="A file", value=example)},
        )
        for media_type, example in upload.items()
    }


def _request_body(operation: Operation, model: type[BaseModel], schemas: Mapping[str, Schema]) -> oas.RequestBody:
    schema = schemas[model.__name__]
    content = oas.MediaType(media_type_schema=_reference(model))
    examples = schema.get("examples")
    if examples:
        content.examples = {
            f"example{number}": oas.Example(summary=", ".join(example), value=example)
            for number, example in enumerate(examples, 1)
        }
    description = f"{schema['description']} At most {operation.largest:,} bytes."
    return oas.RequestBody(required=True, description=description, content={operation.body_type: content})


# Responses (OpenAPI 3.1.0, 4.8.16)


def _responses(route: _Route) -> dict[str, oas.Response]:
    answers = {str(status): _answer(route, status, model) for status, model in route.operation.answers.items()}
    return answers | {
        str(status): _error_response(list(errors))
        for status, errors in groupby(_errors(route), key=lambda error: error.status)
    }


def _answer(route: _Route, status: int, model: type[BaseModel] | None) -> oas.Response:
    response = oas.Response(
        description=_description(route.operation, status), headers=_answer_headers(route.operation, status)
    )
    if model is not None:
        response.content = {JSON: oas.MediaType(media_type_schema=_reference(model))}
    elif status == HTTPStatus.OK:
        response.content = {
            media_type: oas.MediaType(media_type_schema=_schema({"type": "object" if media_type == JSON else "string"}))
            for media_type in _BODIES[route.endpoint]
        }
    return response


def _description(operation: Operation, status: int) -> str:
    if status == HTTPStatus.NO_CONTENT and len(operation.answers) > 1:
        return "The change is made. The credential may not read the record."
    return HTTPStatus(status).phrase


def _answer_headers(operation: Operation, status: int) -> dict[str, oas.Header | oas.Reference]:
    """What an answer says in its headers; a user's version is its entity tag."""
    names = [REQUEST_ID]
    if AiUser in operation.answers.values():
        names.append("ETag")
    if status == HTTPStatus.CREATED:
        names.append("Location")
        if any(header.name == "Idempotency-Key" for header in operation.headers):
            names.append("Idempotent-Replayed")
    return _header_references(names)


def _errors(route: _Route) -> list[type[ApiError]]:
    """The errors of an operation by status: its own, what its path can give and what each can give."""
    general = [BadRequest, InternalError, *([RouteNotFound] if route.arguments else [])]
    if route.operation.entry != "public":
        general += GUARD_ERRORS
    errors = dict.fromkeys([*route.operation.errors, *general])
    return sorted(errors, key=lambda error: error.status)


def _error_response(errors: list[type[ApiError]]) -> oas.Response:
    """The answer that several errors of one status share, with an example of each."""
    codes = {"status": {"const": errors[0].status}, "errorCode": {"enum": [error.code.value for error in errors]}}
    schema = _schema({"allOf": [{"$ref": _REF.format(model=Problem.__name__)}], "properties": codes})
    examples: dict[str, oas.Example | oas.Reference] = {
        error.code.value: oas.Example(summary=error.title, value=_example(error)) for error in errors
    }
    # A header that only some of them carry cannot be demanded of all.
    header_names = {name for error in errors for name in error.headers}
    return oas.Response(
        description="; ".join(f"{error.title} (`{error.code.value}`)" for error in errors),
        headers=_header_references([REQUEST_ID, *sorted(header_names)]),
        content={PROBLEM: oas.MediaType(media_type_schema=schema, examples=examples)},
    )


def _example(error: type[ApiError]) -> dict[str, object]:
    """What the error looks like on the wire."""
    fault: Detail = {"type": "extra_forbidden", "loc": ["query", "colour"], "msg": "Extra inputs are not permitted"}
    return problem_body(error(details=[fault]) if error is RequestInvalid else error(), _UUID)


def _header_references(names: Iterable[str]) -> dict[str, oas.Header | oas.Reference]:
    return {name: oas.Reference.model_validate({"$ref": f"#/components/headers/{name}"}) for name in names}


def _header(meaning: str, pattern: str, example: str, *, always: bool = True) -> oas.Header:
    return oas.Header(
        description=meaning,
        required=always,
        param_schema=_schema({"type": "string", "pattern": pattern}),
        example=example,
    )


def _bearer() -> oas.SecurityScheme:
    return oas.SecurityScheme(type="http", scheme="bearer", description="An API key of a user, `aia_…`.")


def _headers() -> dict[str, oas.Header | oas.Reference]:
    """The headers of answers, for the document's components."""
    return {
        REQUEST_ID: _header("The id of the request, as its log line has it.", _REQUEST_ID_FORM, _UUID),
        "ETag": _header("What If-Match and If-None-Match compare.", rf"^{ENTITY_TAG}$", '"3"'),
        "Location": _header("The path of what was created.", "^/", f"/ai/admin/users/{_UUID}"),
        "Idempotent-Replayed": _header(
            "Present where the answer is the one that this Idempotency-Key got before.", "^true$", "true", always=False
        ),
        "WWW-Authenticate": _header("How to sign in (RFC 6750, 3).", "^Bearer ", 'Bearer realm="ai-admin"'),
        "Retry-After": _header("Seconds to wait before the request is sent again.", "^[0-9]+$", "2", always=False),
    }
