"""An identity provider for tests: its keys, its tokens, good and otherwise, and its key set over HTTP on loopback."""

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from ai_admin.access.identity import IdentityProvider, TokenInvalid

ISSUER = "https://id.example.com/realm"
AUDIENCE = "ai-admin"
START = 1_800_000_000.0

# Made in each process anew; nothing about them may end in the id of a test, which parallel runs compare.
Signer = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
RSA = rsa.generate_private_key(65537, 2048)
RSA_OTHER = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
SIGNERS: dict[str, Signer] = {"RS256": RSA, "ES256": EC, "EdDSA": ED}


def b64(raw: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def b64_int(number: int, size: int | None = None) -> str:
    """Base64urlUInt (RFC 7518, 2), of a fixed size in bytes where one is given."""
    return b64(number.to_bytes(size or (number.bit_length() + 7) // 8, "big"))


def jwk(signer: Signer, **members: Any) -> dict[str, Any]:
    """The public key as the provider publishes it; members that are None are left out."""
    if isinstance(signer, rsa.RSAPrivateKey):
        numbers = signer.public_key().public_numbers()
        key = {"kty": "RSA", "kid": "RS256", "n": b64_int(numbers.n), "e": b64_int(numbers.e)}
    elif isinstance(signer, ec.EllipticCurvePrivateKey):
        point, size = signer.public_key().public_numbers(), signer.key_size // 8
        curve = f"P-{signer.key_size}"
        key = {"kty": "EC", "kid": "ES256", "crv": curve, "x": b64_int(point.x, size), "y": b64_int(point.y, size)}
    else:
        key = {"kty": "OKP", "kid": "EdDSA", "crv": "Ed25519", "x": b64(signer.public_key().public_bytes_raw())}
    return {name: value for name, value in {**key, **members}.items() if value is not None}


def signature(signer: Signer, signed: bytes) -> bytes:
    """RS256, ES256 or EdDSA, by the type of the key."""
    if isinstance(signer, rsa.RSAPrivateKey):
        return signer.sign(signed, padding.PKCS1v15(), hashes.SHA256())
    if isinstance(signer, ec.EllipticCurvePrivateKey):
        size = signer.key_size // 8
        r, s = decode_dss_signature(signer.sign(signed, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")
    return signer.sign(signed)


def unsigned(header: object, payload: object) -> str:
    """The first two parts of a token; bytes stand as they are, all else as JSON."""
    return ".".join(b64(part if isinstance(part, bytes) else json.dumps(part).encode()) for part in (header, payload))


def claims(**changes: Any) -> dict[str, Any]:
    """Claims of a token that is good from START for five minutes; claims that are `...` are left out."""
    good = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "iat": START, "exp": START + 300}
    return {name: value for name, value in {**good, **changes}.items() if value is not ...}


def token(
    payload: object = None, header: dict[str, Any] | None = None, *, alg: str = "EdDSA", by: Signer | None = None
) -> str:
    """A good token but for what is given. Header members that are `...` are left out."""
    full = {"alg": alg, "kid": alg, "typ": "JWT", **(header or {})}
    signed = unsigned(
        {name: value for name, value in full.items() if value is not ...}, claims() if payload is None else payload
    )
    return f"{signed}.{b64(signature(by or SIGNERS[alg], signed.encode()))}"


class Clock:
    """The time, which stands still until it is set."""

    def __init__(self) -> None:
        self.time = START

    def __call__(self) -> float:
        """Unix seconds."""
        return self.time


class Handler(BaseHTTPRequestHandler):
    """Answers as the double says."""

    server: "Provider"

    def do_GET(self) -> None:
        """Whatever the path."""
        with self.server.counting:
            self.server.hits += 1
        self.server.answer(self)

    do_POST = do_GET  # noqa: N815  the name that http.server calls

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def send(self, body: bytes, status: int = 200, **headers: str) -> None:
        """Send all of an answer; its end is the end of the connection."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


class Provider(ThreadingHTTPServer):
    """An identity provider on loopback that publishes `keys`, or whatever `answer` does, and counts requests."""

    daemon_threads = True
    request_queue_size = 50

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.keys: list[Any] = [jwk(RSA), jwk(EC), jwk(ED)]
        self.answer: Callable[[Handler], None] = self.publish
        self.counting = threading.Lock()
        self.hits = 0
        self.url = f"http://127.0.0.1:{self.server_port}/keys"

    @property
    def body(self) -> bytes:
        """The JWK Set."""
        return json.dumps({"keys": self.keys}).encode()

    def publish(self, request: Handler) -> None:
        """Answer as a provider does."""
        request.send(self.body)

    def handle_error(self, *_: Any) -> None:
        """Whoever hangs up on a slow server leaves a broken pipe there."""


Double = TypeVar("Double", bound=Provider)


@contextmanager
def serving(provider: Double) -> Iterator[Double]:
    """Serve until the end of the block."""
    thread = threading.Thread(target=provider.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield provider
    finally:
        provider.shutdown()
        thread.join()
        provider.server_close()


def assert_refused(verifier: IdentityProvider, bad: str, reason: str) -> None:
    """The token is refused for this reason and no other, and the reason quotes nothing of it."""
    with pytest.raises(TokenInvalid) as caught:
        verifier.verify(bad)
    assert str(caught.value).startswith(reason)
    assert len(str(caught.value)) < 60
