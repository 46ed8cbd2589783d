"""A little OpenID provider over HTTP on loopback: the two endpoints of the code flow, as strict as a good one."""

import base64
import html
import json
import secrets
import time
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

from authlib.oauth2.rfc7636 import create_s256_code_challenge

from tests.identity_provider import AUDIENCE, ISSUER, Handler, Provider, claims, token

CLIENT = "console"
# What a client must ask for, beside what is its own.
_ASKED = {"response_type": "code", "client_id": CLIENT, "scope": "openid email", "code_challenge_method": "S256"}
_PAGE = '<!doctype html><title>Provider</title><form method="post" action="{}"><button>Go on as Ada</button></form>'


class OpenIdProvider(Provider):
    """Publishes its keys, asks the person, and changes codes for tokens, each once."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = self.route
        self.origin = f"http://127.0.0.1:{self.server_port}"
        # Of the person who signs in, beside what makes a good ID token.
        self.claims: dict[str, Any] = {}
        self.secret: str | None = None
        # Whether the answers to browsers name the issuer (RFC 9207).
        self.names_itself = True
        self.error: str | None = None
        self.codes: dict[str, dict[str, str]] = {}
        # Bodies that came to the token endpoint.
        self.redeemed: list[dict[str, str]] = []

    def settings(self, public_url: str) -> dict[str, str]:
        """The ConfigMap's values that name it."""
        return {
            "OIDC_ISSUER": ISSUER,
            "OIDC_AUDIENCE": AUDIENCE,
            "OIDC_JWKS_URL": self.url,
            "OIDC_CLIENT_ID": CLIENT,
            "OIDC_AUTHORIZATION_URL": f"{self.origin}/authorize",
            "OIDC_TOKEN_URL": f"{self.origin}/token",
            "PUBLIC_URL": public_url,
        }

    def route(self, request: Handler) -> None:
        """By path."""
        path = urlsplit(request.path).path
        if path == "/keys":
            self.publish(request)
        elif path == "/authorize" and request.command == "GET":
            page = _PAGE.format(html.escape(request.path))
            request.send(page.encode(), 200, **{"Content-Type": "text/html"})
        elif path == "/authorize":
            request.send(b"", 303, Location=self.answer_to(request.path))
        elif path == "/token":
            self.redeem(request)
        else:
            request.send(b"", 404)

    def answer_to(self, asked: str) -> str:
        """Where a browser is led with its answer, from the address that it came to. Raises ValueError."""
        parameters = dict(parse_qsl(urlsplit(asked).query, strict_parsing=True))
        if not _ASKED.items() <= parameters.items():
            raise ValueError(parameters)
        answer = {"state": parameters["state"], **({"iss": ISSUER} if self.names_itself else {})}
        if self.error is None:
            answer["code"] = secrets.token_urlsafe(16)
            self.codes[answer["code"]] = parameters
        else:
            answer |= {"error": self.error, "error_description": "<b>words of the provider</b>"}
        return f"{parameters['redirect_uri']}?{urlencode(answer)}"

    def redeem(self, request: Handler) -> None:
        """A code for tokens, once, for the client that asked for it and has the verifier."""
        raw = request.rfile.read(int(request.headers["Content-Length"]))
        body = {name: values[0] for name, values in parse_qs(raw.decode()).items()}
        self.redeemed.append(body)
        if not self.knows(request, body):
            request.send(b'{"error": "invalid_client"}', 401)
            return
        asked = self.codes.pop(body["code"], None)
        verified = asked and create_s256_code_challenge(body["code_verifier"]) == asked["code_challenge"]
        if not asked or not verified or body.get("redirect_uri") != asked["redirect_uri"]:
            request.send(b'{"error": "invalid_grant"}', 400)
            return
        tokens = {"access_token": "canary-access", "token_type": "Bearer", "id_token": self.id_token(asked["nonce"])}
        request.send(json.dumps(tokens).encode(), 200, **{"Content-Type": "application/json"})

    def knows(self, request: Handler, body: dict[str, str]) -> bool:
        """Whether the client is who it says (RFC 6749, 2.3.1), or public."""
        if self.secret is None:
            return body.get("client_id") == CLIENT and "Authorization" not in request.headers
        expected = base64.b64encode(f"{CLIENT}:{self.secret}".encode()).decode()
        return request.headers["Authorization"] == f"Basic {expected}" and "client_secret" not in body

    def id_token(self, nonce: str) -> str:
        """For the console, of this moment."""
        now = int(time.time())
        made = claims(**{"aud": CLIENT, "iat": now, "exp": now + 60, "nonce": nonce, **self.claims})
        return token(made)
