"""The requests of the authorization code flow of OpenID Connect, with PKCE (RFC 7636, S256), as RFC 9700, 2.1 has it.

Authlib knows their parameters, and how a client proves itself. It is imported with this module, when the first sign-in
begins, and not at a cold start.
"""

import logging
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.request import Request

from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri, prepare_token_request
from authlib.oauth2.rfc7636 import create_s256_code_challenge

from ai_admin.access.attempts import Attempt, error_code
from ai_admin.access.provider_http import fetch
from ai_admin.config import ConfigSettings, Settings, read_secret
from ai_admin.errors import IdentityProviderUnavailable, Unauthenticated
from ai_admin.json_values import loads

_log = logging.getLogger(__name__)
# What a token endpoint may take, in seconds.
_TIMEOUT_S = 5.0
_LARGEST_REFUSAL = 4096


def authorization_address(config: ConfigSettings, attempt: Attempt, redirect_uri: str) -> str:
    """Where the browser is led to."""
    return str(
        prepare_grant_uri(
            config.oidc_authorization_url,
            client_id=config.oidc_client_id,
            response_type="code",
            redirect_uri=redirect_uri,
            scope="openid email",
            state=attempt.state,
            nonce=attempt.nonce,
            code_challenge=create_s256_code_challenge(attempt.verifier),
            code_challenge_method="S256",
        )
    )


def id_token(settings: Settings, attempt: Attempt, code: str, redirect_uri: str) -> str:
    """What the provider gives for the code, unverified.

    Raises `Unauthenticated` where it refuses the code, and `IdentityProviderUnavailable`.
    """
    try:
        token = loads(fetch(_request(settings, attempt, code, redirect_uri), _TIMEOUT_S))["id_token"]
    except HTTPError as error:
        told = _error_of(error)
        if told == "invalid_grant":
            raise Unauthenticated("code: refused by the provider") from None
        raise _unavailable(f"status {error.code}, {told}") from None
    except (OSError, HTTPException, ValueError, KeyError, TypeError) as error:
        raise _unavailable(type(error).__name__) from None
    if not isinstance(token, str):
        raise _unavailable("no ID token")
    return token


def _request(settings: Settings, attempt: Attempt, code: str, redirect_uri: str) -> Request:
    """The code for tokens (RFC 6749, 4.1.3). The secret is read anew: Kubernetes may have swapped it."""
    secret = read_secret("OIDC_CLIENT_SECRET", settings.root)
    client = ClientAuth(settings.config.oidc_client_id, secret, "client_secret_basic" if secret else "none")
    body = prepare_token_request(
        "authorization_code", redirect_uri=redirect_uri, code=code, code_verifier=attempt.verifier
    )
    headers = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
    url, headers, body = client.prepare("POST", settings.config.oidc_token_url, headers, body)
    return Request(url, body.encode(), headers, method="POST")  # noqa: S310  require_https


def _error_of(answer: HTTPError) -> str:
    """The error code of a token endpoint's refusal."""
    try:
        return error_code(loads(answer.read(_LARGEST_REFUSAL))["error"])
    except (OSError, HTTPException, ValueError, KeyError, TypeError):
        return error_code(None)
    finally:
        answer.close()


def _unavailable(reason: str) -> IdentityProviderUnavailable:
    _log.warning("The identity provider's token endpoint gave no ID token: %s", reason)
    return IdentityProviderUnavailable("The identity provider does not answer as it should. API keys work as ever.")
