"""Bearer tokens of the organisation's identity provider: JWTs (RFC 7519) signed with keys it publishes (RFC 7517).

The checks follow RFC 8725 and OpenID Connect Core, 3.1.3.7. Importing joserfc takes a good part of a function's cold
start, so this module is imported when the first token comes, and not before.
"""

import base64
import json
import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, NoReturn, TypeGuard
from urllib.request import Request

from joserfc.errors import JoseError
from joserfc.jwk import JWKRegistry, Key
from joserfc.jws import JWSRegistry

from ai_admin.access.addresses import require_https
from ai_admin.access.provider_http import fetch

_log = logging.getLogger(__name__)

LONGEST_TOKEN = 8192
# Seconds by which the provider's clock and ours may differ.
LEEWAY_S = 30
# OpenID Connect Core, 2, on `sub`; and the longest address that a user can have.
_LONGEST_SUBJECT = 255
_LONGEST_EMAIL = 254
# The end of the year 9999, the last that a datetime can hold.
_LAST_SECOND = 253_402_300_799

# RFC 9068, 2.1, and RFC 7519, 5.1; in lower case, without the "application/" that may stand before it.
_TYPES = ("jwt", "at+jwt")
# Extensions that must be understood (there are none here), and keys that a token brings along itself.
_REFUSED_HEADERS = {"crit", "b64", "jwk", "jku", "x5c", "x5u"}
# The one algorithm of each kind of key (type and curve), and the members that make the key (RFC 7518, 6; RFC 8037, 2).
_KINDS = {
    ("RSA", None): ("RS256", ("n", "e")),
    ("EC", "P-256"): ("ES256", ("crv", "x", "y")),
    ("OKP", "Ed25519"): ("EdDSA", ("crv", "x")),
}
_ALGORITHMS = {algorithm for algorithm, _ in _KINDS.values()}
_SMALLEST_RSA_BITS = 2048

# A key set is fetched again when it is older, and used no longer than a day when that fails; in seconds.
_STALE_S = 600
_LONGEST_USE_S = 86_400
# Seconds from one fetch to the next at least, whatever tokens ask for; and where there is no usable set at all.
_PAUSE_S = 60
_PAUSE_WITHOUT_KEYS_S = 5
# What a connection may wait for a packet, and a request for the whole answer, in seconds.
_TIMEOUT_S = 3.0


class TokenInvalid(Exception):
    """The token proves nothing. The text is a reason for the log, not for the caller; it quotes nothing of it."""


class ProviderUnavailable(Exception):
    """The provider's keys cannot be had, and none are held that may still be used: no token can be judged."""


@dataclass(frozen=True)
class Identity:
    """Who the provider says is calling. `issuer` and `subject` together name a person for good; an email does not.

    `email` is there if the provider has verified it, spelled as the provider does. `expires_at` is in Unix seconds.
    """

    issuer: str
    subject: str
    email: str | None
    expires_at: float


class IdentityProvider:
    """Verifies the tokens that one issuer makes for one audience. Thread-safe; fetches no key before it needs one."""

    def __init__(
        self,
        issuer: str,
        audience: str,
        jwks_url: str,
        *,
        authorized_parties: frozenset[str] = frozenset(),
        now: Callable[[], float] = time.time,
    ) -> None:
        """`authorized_parties` are the clients (`azp`) whose tokens may name further audiences beside ours.

        Raises ValueError if a text is empty or the URL is not https; http will do on a loopback address.
        """
        if not issuer or not audience:
            raise ValueError("An identity provider needs an issuer and an audience")
        require_https(jwks_url)
        self.issuer = issuer
        self.audience = audience
        self._parties = [audience, *authorized_parties]
        self._now = now
        self._keys = _KeySource(jwks_url, now)

    def verify(self, token: str, nonce: str | None = None) -> Identity:
        """Verify a JWT in compact form, without the word `Bearer`; an ID token with the nonce that it was asked for.

        Raises `TokenInvalid` and `ProviderUnavailable`.
        """
        if len(token) > LONGEST_TOKEN:
            raise TokenInvalid("longer than any token")
        try:
            header, payload, signature = (_decode(part) for part in token.split("."))
        except ValueError as error:
            raise TokenInvalid("not three parts in base64url") from error
        algorithm, key_id = _read_header(_token_object(header))
        signed = token.rpartition(".")[0].encode()
        keys = [key for key in self._keys.find(key_id) if key.algorithm == algorithm]
        if not keys:
            raise TokenInvalid("no key of the provider has this id and algorithm")
        if not any(key.has_signed(signed, signature) for key in keys):
            raise TokenInvalid("not the provider's signature")
        claims = _token_object(payload)
        if nonce is not None:
            self._check_id_token(claims, nonce)
        return self._read_claims(claims)

    def _check_id_token(self, claims: dict[str, Any], nonce: str) -> None:
        """What of OpenID Connect Core, 3.1.3.7, holds for ID tokens alone: they answer one sign-in, of one client."""
        if claims.get("nonce") != nonce:
            raise TokenInvalid("nonce: of another sign-in")
        if claims.get("azp", self.audience) != self.audience:
            raise TokenInvalid("azp: another client")

    def _read_claims(self, claims: dict[str, Any]) -> Identity:
        if claims.get("iss") != self.issuer:
            raise TokenInvalid("iss: another issuer")
        self._check_audience(claims)
        # A token bound to a key (RFC 7800) is worth nothing without proof of it, which a bearer does not give.
        if "cnf" in claims:
            raise TokenInvalid("cnf: not a bearer token")
        expires_at = self._check_times(claims)
        subject = claims.get("sub")
        if not _is_text(subject, _LONGEST_SUBJECT):
            raise TokenInvalid("sub: not a subject")
        email = claims.get("email")
        verified = claims.get("email_verified") is True and _is_text(email, _LONGEST_EMAIL) and email.isascii()
        return Identity(self.issuer, subject, email if verified else None, expires_at)

    def _check_audience(self, claims: dict[str, Any]) -> None:
        """Ours must be among the audiences. If there are others, a party that we trust must have got the token.

        Otherwise any other audience could use here what it was sent. With one audience `azp` decides nothing: in
        access tokens it is the client that asked for the token.
        """
        audiences = claims.get("aud")
        if isinstance(audiences, str):
            audiences = [audiences]
        if not (isinstance(audiences, list) and all(isinstance(one, str) for one in audiences)):
            raise TokenInvalid("aud: neither a string nor a list of strings")
        if self.audience not in audiences:
            raise TokenInvalid("aud: another audience")
        if set(audiences) != {self.audience} and claims.get("azp") not in self._parties:
            raise TokenInvalid("azp: several audiences, and not a party that is trusted")

    def _check_times(self, claims: dict[str, Any]) -> float:
        """The time of expiry. Inclusive at its start and exclusive at its end, as RFC 7519, 4.1.4 and 4.1.5 say."""
        now = self._now()
        if "exp" not in claims:
            raise TokenInvalid("exp: missing")
        expires_at = _read_time(claims, "exp")
        if now >= expires_at + LEEWAY_S:
            raise TokenInvalid("exp: expired")
        for name in ("nbf", "iat"):
            if name in claims and now < _read_time(claims, name) - LEEWAY_S:
                raise TokenInvalid(f"{name}: not yet")
        return expires_at


def _read_header(header: dict[str, Any]) -> tuple[str, str | None]:
    """Algorithm and key id. Raises `TokenInvalid`."""
    if not _REFUSED_HEADERS.isdisjoint(header):
        raise TokenInvalid("header: critical, or a key of its own")
    kind = header.get("typ", "JWT")
    if not (isinstance(kind, str) and kind.lower().removeprefix("application/") in _TYPES):
        raise TokenInvalid("typ: not a JWT for an API")
    algorithm = header.get("alg")
    if not (isinstance(algorithm, str) and algorithm in _ALGORITHMS):
        raise TokenInvalid("alg: not allowed")
    key_id = header.get("kid")
    if "kid" in header and not isinstance(key_id, str):
        raise TokenInvalid("kid: not a string")
    return algorithm, key_id


def _read_time(claims: dict[str, Any], name: str) -> float:
    """A NumericDate (RFC 7519, 2) between 1970 and the year 9999; NaN is in no range."""
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LAST_SECOND:
        raise TokenInvalid(f"{name}: not a time")
    return float(value)


def _is_text(value: object, longest: int) -> TypeGuard[str]:
    """Whether this is a string that can be stored, compared and logged: no control characters or lone surrogates."""
    return isinstance(value, str) and 0 < len(value) <= longest and value.isprintable()


def _token_object(part: bytes) -> dict[str, Any]:
    try:
        return _json_object(part)
    except ValueError as error:
        raise TokenInvalid("not a JSON object of distinct members") from error


def _json_object(raw: bytes) -> dict[str, Any]:
    """A JSON object in UTF-8 in which no member stands twice: two readers could take one each. Raises ValueError."""
    try:
        value = json.loads(raw.decode(), object_pairs_hook=_distinct, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004  one error for all that can be wrong with the text
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member stands twice")
    return members


def _refuse_constant(_: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


def _decode(text: str) -> bytes:
    """Base64url without padding (RFC 7515, 2), in the one canonical spelling of its bytes. Raises ValueError."""
    raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if base64.urlsafe_b64encode(raw).rstrip(b"=").decode() != text:
        raise ValueError("not canonical")
    return raw


@dataclass(frozen=True)
class _SigningKey:
    """A public key of the provider, with the one algorithm that it is used with."""

    id: str | None
    algorithm: str
    key: Key

    def has_signed(self, signed: bytes, signature: bytes) -> bool:
        # Not by way of `deserialize_compact`: it would read the header a second time in its own way, refuse long
        # ones, and warn at each token that EdDSA has got a new name (RFC 9864).
        return JWSRegistry.algorithms[self.algorithm].verify(signed, signature, self.key)


def _read_key_set(raw: bytes) -> list[_SigningKey]:
    """The keys of a JWK Set that can verify a token. Raises ValueError."""
    keys = _json_object(raw).get("keys")
    if not isinstance(keys, list):
        raise ValueError("not a JWK Set")  # noqa: TRY004  one error for all that can be wrong with the answer
    return [key for key in map(_read_key, keys) if key]


def _read_key(jwk: Any) -> _SigningKey | None:
    """A key, or None if it is not one for signatures, of a kind that is unknown here, weak or faulty (RFC 7517, 5)."""
    try:
        algorithm, members = _KINDS[jwk["kty"], jwk.get("crv")]
        key_id = jwk.get("kid")
        if jwk.get("use", "sig") != "sig" or "verify" not in jwk.get("key_ops", ["verify"]):
            return None
        # A key whose private half is published is everyone's.
        if jwk.get("alg", algorithm) != algorithm or "d" in jwk or not isinstance(key_id, str | None):
            return None
        if algorithm == "RS256" and int.from_bytes(_decode(jwk["n"]), "big").bit_length() < _SMALLEST_RSA_BITS:
            return None
        key = JWKRegistry.import_key({name: jwk[name] for name in ("kty", *members)})
    except (JoseError, AttributeError, KeyError, TypeError, ValueError):
        return None
    return _SigningKey(key_id, algorithm, key)


class _KeySource:
    """The provider's key set: fetched when it is needed, kept, and renewed. Thread-safe, one fetch at a time.

    A fetch runs in a thread of its own, so that a request waits 3 s for it at most, whatever name servers and
    sockets do. Whoever finds the set stale starts the fetch and waits; meanwhile others use the old set.
    """

    def __init__(self, url: str, now: Callable[[], float]) -> None:
        self._url = url
        self._now = now
        self._lock = threading.Lock()
        self._fetch: threading.Thread | None = None
        self._tried_at = -math.inf
        # The keys, and when the fetch of them began.
        self._held: tuple[list[_SigningKey], float] = ([], -math.inf)

    def find(self, key_id: str | None) -> list[_SigningKey]:
        """The keys of this id, several if the provider gave it twice; without an id its only key, if it has but one.

        An unknown id may be that of a new key: the set is fetched again. Raises `ProviderUnavailable`.
        """
        keys = self._current()
        if key_id is None:
            return keys if len(keys) == 1 else []
        if not any(key.id == key_id for key in keys):
            self._renew(wait=True)
            keys = self._current()
        return [key for key in keys if key.id == key_id]

    def _current(self) -> list[_SigningKey]:
        # An age below zero: the clock has been set back.
        if not 0 <= self._age() < _STALE_S:
            self._renew(wait=not self._usable())
        if not self._usable():
            raise ProviderUnavailable("the key set cannot be fetched")
        return self._held[0]

    def _age(self) -> float:
        return self._now() - self._held[1]

    def _usable(self) -> bool:
        return self._age() < _LONGEST_USE_S

    def _renew(self, *, wait: bool) -> None:
        """Fetch the set unless that was tried just now; with `wait`, wait also for a fetch that another began."""
        with self._lock:
            now = self._now()
            # A fetch that still hangs after the long pause is given up.
            running = self._fetch is not None and self._fetch.is_alive()
            pause = _PAUSE_S if running or self._usable() else _PAUSE_WITHOUT_KEYS_S
            if not 0 <= now - self._tried_at < pause:
                self._tried_at = now
                self._fetch = threading.Thread(target=self._load, args=(now,), name="fetch-key-set", daemon=True)
                self._fetch.start()
                wait = True
            fetch = self._fetch
        if wait and fetch:
            fetch.join(_TIMEOUT_S)

    def _load(self, started_at: float) -> None:
        try:
            keys = _read_key_set(_download(self._url))
        except (OSError, HTTPException, ValueError) as error:
            _log.warning("The identity provider's key set was not fetched: %s", str(error)[:200])
            return
        with self._lock:
            # One that was given up must not bring old keys back.
            if self._fetch is threading.current_thread():
                self._held = (keys, started_at)


def count_keys(url: str) -> int:
    """How many keys that can verify a token are in the key set at this URL. Raises `ProviderUnavailable`."""
    try:
        keys = _read_key_set(_download(url))
    except (OSError, HTTPException, ValueError) as error:
        raise ProviderUnavailable(str(error)[:200]) from None
    if not keys:
        raise ProviderUnavailable("the key set has no key that can verify a token")
    return len(keys)


def _download(url: str) -> bytes:
    """The body at this URL; raises as `fetch` does."""
    accepted = "application/jwk-set+json, application/json"
    return fetch(Request(url, headers={"Accept": accepted}), _TIMEOUT_S)  # noqa: S310  require_https
