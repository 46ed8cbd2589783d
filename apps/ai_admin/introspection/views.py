"""What gateways ask: whether a key is good, whose it is, and whether it may call a model."""

from flask import Blueprint, Response

from ai_admin.access.guard import actor, principal
from ai_admin.access.principals import Principal
from ai_admin.access.scopes import Scope
from ai_admin.errors import (
    DatabaseUnavailable,
    Forbidden,
    RequestInvalid,
    Unauthenticated,
)
from ai_admin.http.answers import answer
from ai_admin.http.body import BODY_ERRORS, read_form
from ai_admin.http.query import read_query
from ai_admin.introspection.schemas import LARGEST_QUESTION, AuthorizeQuery, Introspection, Question
from ai_admin.operations import FORM, NoQuery, describe
from ai_admin.services import services

introspection = Blueprint("introspection", __name__, url_prefix="/ai")


@introspection.post("/introspect")
@describe(
    "Look at a credential",
    Scope.TOKENS_INTROSPECT,
    answers={200: Introspection},
    body=Question,
    body_type=FORM,
    largest=LARGEST_QUESTION,
    errors=(*BODY_ERRORS, DatabaseUnavailable),
)
def introspect() -> Response:
    """RFC 7662: a gateway asks with its own credential about that of its caller, an API key or a provider's token."""
    read_query(NoQuery)
    question = read_form(Question)
    try:
        found = services().principals.of_token(question.token, actor)
    except Unauthenticated:
        return answer({"active": False})
    return answer(_facts(found, question.model))


@introspection.get("/authorize")
@describe(
    "Authorize a subrequest",
    "signed-in",
    answers={204: None},
    query=AuthorizeQuery,
    errors=(RequestInvalid, DatabaseUnavailable),
    subrequest=True,
)
def authorize() -> Response:
    """For nginx's `auth_request` and its like: the caller's own credential, an answer without a body.

    204 with `X-AI-User`, `X-AI-Tag` and `X-AI-Kind`; 401 for a credential that is not good, 403 for a model that it
    may not call.
    """
    query = read_query(AuthorizeQuery)
    caller = principal()
    if query.model is not None and not may_call(caller, query.model):
        raise Forbidden("The credential does not allow this model.")
    headers = {"X-AI-User": str(caller.user_id), "X-AI-Tag": caller.tag, "X-AI-Kind": caller.kind.value}
    return Response(status=204, headers=headers)


def may_call(caller: Principal, model: str) -> bool:
    """Whether a pattern of the user fits the model, and one of the key where the key has its own."""
    limits = [caller.models] if caller.key_models is None else [caller.models, caller.key_models]
    return all(any(fits(pattern, model) for pattern in patterns) for patterns in limits)


def fits(pattern: str, model: str) -> bool:
    """Whether the model is one of the pattern's: `*` stands for any characters, and everything else for itself.

    Each part is taken where it comes first, so nothing is ever tried again: a regular expression would take time
    that is exponential in the stars, and an administrator writes them.
    """
    first, *parts = pattern.split("*")
    if not parts:
        return pattern == model
    if not model.startswith(first):
        return False
    at = len(first)
    for part in parts[:-1]:
        at = model.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return model.endswith(parts[-1]) and len(model) - len(parts[-1]) >= at


def _facts(found: Principal, model: str | None) -> dict[str, object]:
    facts: dict[str, object] = {
        "active": True,
        "sub": found.user_id,
        "scope": " ".join(sorted(scope.value for scope in found.scopes)),
        "token_type": "Bearer",
        "tag": found.tag,
        "kind": found.kind.value,
        "models": found.models,
    }
    if found.expires_at is not None:
        facts["exp"] = int(found.expires_at.timestamp())
    if found.key_models is not None:
        facts["keyModels"] = found.key_models
    if model is not None:
        facts["modelAllowed"] = may_call(found, model)
    return facts
