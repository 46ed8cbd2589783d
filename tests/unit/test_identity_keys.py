"""The keys of an identity provider: which are used, how they come and go, and what happens while it is away."""

import base64
import logging
import ssl
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from ai_admin.access import identity
from ai_admin.access.identity import IdentityProvider, ProviderUnavailable
from tests.identity_provider import (
    AUDIENCE,
    EC,
    ED,
    ISSUER,
    RSA,
    RSA_OTHER,
    SIGNERS,
    START,
    Clock,
    Handler,
    Provider,
    Signer,
    assert_refused,
    b64,
    b64_int,
    claims,
    jwk,
    serving,
    token,
)

# How long a server of these tests holds a request at most, in seconds; nothing waits for it when all is well.
HELD_S = 20.0
RSA_WEAK = rsa.generate_private_key(65537, 1024)
EC_384 = ec.generate_private_key(ec.SECP384R1())

OFF_CURVE = jwk(EC)["y"][:-2] + ("AA" if jwk(EC)["y"][-2:] != "AA" else "BA")
UNUSABLE: list[tuple[str, Signer, object]] = [
    ("EdDSA", ED, jwk(ED, use="enc")),
    ("EdDSA", ED, jwk(ED, use="")),
    ("EdDSA", ED, jwk(ED, use=["sig"])),
    ("EdDSA", ED, jwk(ED, key_ops=["sign"])),
    ("EdDSA", ED, jwk(ED, key_ops=[])),
    ("EdDSA", ED, jwk(ED, alg="ES256")),
    ("EdDSA", ED, jwk(ED, alg="HS256")),
    ("EdDSA", ED, jwk(ED, crv="Ed448")),
    ("EdDSA", ED, jwk(ED, crv="X25519")),
    ("EdDSA", ED, jwk(ED, crv=["Ed25519"])),
    ("EdDSA", ED, jwk(ED, kty=["OKP"])),
    ("EdDSA", ED, jwk(ED, kty="okp")),
    ("EdDSA", ED, jwk(ED, x=jwk(ED)["x"] + "=")),
    ("EdDSA", ED, jwk(ED, x=b64(bytes(31)))),
    ("EdDSA", ED, jwk(ED, x=5)),
    ("EdDSA", ED, jwk(ED, d=b64(ED.private_bytes_raw()))),
    ("EdDSA", ED, jwk(ED, kid=5)),
    ("RS256", RSA, jwk(RSA, alg="RS512")),
    ("RS256", RSA, jwk(RSA, alg="RSA-OAEP")),
    ("RS256", RSA, jwk(RSA, alg="PS256")),
    ("RS256", RSA, jwk(RSA, n=5)),
    ("RS256", RSA, {"kty": "RSA", "kid": "RS256", "n": jwk(RSA)["n"]}),
    ("RS256", RSA, jwk(RSA, e=b64(b"\x01"))),
    ("RS256", RSA, jwk(RSA, d=b64_int(RSA.private_numbers().d))),
    ("RS256", RSA_WEAK, jwk(RSA_WEAK)),
    ("RS256", RSA_WEAK, jwk(RSA_WEAK, n=b64(bytes(128) + base64.urlsafe_b64decode(jwk(RSA_WEAK)["n"] + "==")))),
    ("ES256", EC, jwk(EC, y=OFF_CURVE)),
    ("ES256", EC, jwk(EC, crv="P-384")),
    ("ES256", EC, jwk(EC, crv="secp256k1")),
    ("ES256", EC_384, jwk(EC_384)),
    ("ES256", EC_384, jwk(EC_384, crv="P-256")),
    ("EdDSA", ED, "key"),
    ("EdDSA", ED, ["kty"]),
    ("EdDSA", ED, None),
    ("EdDSA", ED, 5),
    ("EdDSA", ED, {}),
]


@pytest.mark.parametrize(("alg", "signer", "published"), UNUSABLE)
def test_unusable_keys_are_passed_over(
    verifier: IdentityProvider, provider: Provider, alg: str, signer: Signer, published: object
) -> None:
    """Weak, faulty or for something else: such a key verifies nothing, and does not spoil the others of the set."""
    provider.keys = [published, jwk(RSA_OTHER, kid="good")]
    assert_refused(verifier, token(alg=alg, by=signer), "no key")
    assert verifier.verify(token(header={"kid": "good"}, alg="RS256", by=RSA_OTHER)).subject == "ada"


@pytest.mark.parametrize(("alg", "signer", "published"), UNUSABLE)
def test_an_unusable_key_is_not_the_only_key(
    verifier: IdentityProvider, provider: Provider, alg: str, signer: Signer, published: object
) -> None:
    """Nor does it serve a token that names no key, where there is no other."""
    provider.keys = [published]
    assert_refused(verifier, token(header={"kid": ...}, alg=alg, by=signer), "no key")


def test_keys_that_say_what_they_are_for(verifier: IdentityProvider, provider: Provider) -> None:
    """Members that describe a key and are right, and those that nobody needs, stand in no one's way."""
    more: dict[str, Any] = {"use": "sig", "key_ops": ["verify"], "x5c": ["MIIB"], "x5t": "abc", "nbf": 5}
    provider.keys = [jwk(signer, alg=alg, **more) for alg, signer in SIGNERS.items()]
    for alg in SIGNERS:
        assert verifier.verify(token(alg=alg)).subject == "ada"


def test_two_keys_of_one_id(verifier: IdentityProvider, provider: Provider) -> None:
    """A provider that gives an id twice locks nobody out: either key will do, and no third one."""
    provider.keys = [jwk(RSA, kid="k"), jwk(RSA_OTHER, kid="k"), jwk(ED, kid="k")]
    for signer in (RSA, RSA_OTHER):
        assert verifier.verify(token(header={"kid": "k"}, alg="RS256", by=signer)).subject == "ada"
    assert verifier.verify(token(header={"kid": "k"})).subject == "ada"
    third = rsa.generate_private_key(65537, 2048)
    assert_refused(verifier, token(header={"kid": "k"}, alg="RS256", by=third), "not the provider's")
    assert_refused(verifier, token(header={"kid": "k"}, alg="ES256"), "no key")


# Keys that change, and a provider that is away


def test_a_new_key_is_found_at_once(verifier: IdentityProvider, provider: Provider, clock: Clock) -> None:
    """After the provider has changed its key, the first token of the new one brings it here."""
    verifier.verify(token())
    provider.keys = [jwk(RSA_OTHER, kid="new")]
    clock.time += 61
    assert verifier.verify(token(header={"kid": "new"}, alg="RS256", by=RSA_OTHER)).subject == "ada"
    assert_refused(verifier, token(), "no key")


def test_an_old_key_goes_within_ten_minutes(verifier: IdentityProvider, provider: Provider, clock: Clock) -> None:
    """A key that the provider has withdrawn, perhaps because it leaked, is not used for longer."""
    verifier.verify(token())
    provider.keys = [jwk(RSA)]
    clock.time += 599
    late = token(claims(exp=START + 5000))
    assert verifier.verify(late).subject == "ada"
    clock.time += 1
    assert_refused(verifier, late, "no key")


def test_no_keys_any_more(verifier: IdentityProvider, provider: Provider, clock: Clock) -> None:
    """A provider that publishes an empty set has withdrawn all its keys."""
    verifier.verify(token())
    provider.keys = []
    clock.time += 600
    assert_refused(verifier, token(claims(exp=START + 5000)), "no key")


def test_unknown_ids_cause_one_fetch_a_minute(verifier: IdentityProvider, provider: Provider, clock: Clock) -> None:
    """Nobody makes this service flood the provider by inventing ids."""
    for minute in range(3):
        clock.time = START + 60 * minute
        for number in range(50):
            assert_refused(verifier, token(header={"kid": f"{minute}-{number}"}), "no key")
        assert provider.hits == minute + 1
    clock.time += 59
    assert_refused(verifier, token(header={"kid": "x"}), "no key")
    assert provider.hits == 3


def test_a_clock_set_back(verifier: IdentityProvider, provider: Provider, clock: Clock) -> None:
    """The set is fetched anew, instead of being taken for fresh until the clock has caught up."""
    verifier.verify(token())
    provider.keys = [jwk(RSA)]
    clock.time -= 7200
    assert_refused(verifier, token(claims(iat=...)), "no key")


def _json(text: bytes) -> Callable[[Handler], None]:
    return lambda request: request.send(text)


def _status(status: int) -> Callable[[Handler], None]:
    return lambda request: request.send(b'{"keys": []}', status)


def _redirect(status: int, host: str) -> Callable[[Handler], None]:
    """A redirect that ends, if it is followed, at a good key set."""

    def answer(request: Handler) -> None:
        if request.path == "/keys":
            location = f"http://{host}:{request.server.server_port}/moved"
            request.send(b"", status, Location=location)
        else:
            request.server.publish(request)

    return answer


def _padded(size: int) -> Callable[[Handler], None]:
    """A good key set, followed by spaces until it has this many bytes."""
    return lambda request: request.send(request.server.body.ljust(size))


def _claimed(length: str) -> Callable[[Handler], None]:
    """A good key set under a Content-Length that is not its own."""

    def answer(request: Handler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", length)
        request.end_headers()
        request.wfile.write(request.server.body)

    return answer


def _raw(answer: bytes) -> Callable[[Handler], None]:
    def send(request: Handler) -> None:
        request.wfile.write(answer)

    return send


BAD_ANSWERS: dict[str, Callable[[Handler], None]] = {
    "500": _status(500),
    "404": _status(404),
    "304": _status(304),
    "204": _status(204),
    **{f"redirect {status}": _redirect(status, "127.0.0.1") for status in (301, 302, 303, 307, 308)},
    "redirect to another host": _redirect(302, "localhost"),
    "redirect to a file": lambda request: request.send(b"", 302, Location="file:///etc/passwd"),
    "HTML": _json(b"<!DOCTYPE html><title>Sign in</title>"),
    "nothing": _json(b""),
    "a list": _json(b"[]"),
    "no keys": _json(b"{}"),
    "keys of another type": _json(b'{"keys": {}}'),
    "null": _json(b'{"keys": null}'),
    "twice": _json(b'{"keys": [], "keys": []}'),
    "NaN": _json(b'{"keys": [], "x": NaN}'),
    "UTF-16": _json('{"keys": []}'.encode("utf-16")),
    "nested": _json(b'{"keys": ' + b"[" * 200_000),
    "too large": _padded(256 * 1024 + 1),
    "cut short": _claimed("50"),
    "no HTTP": _raw(b"SSH-2.0-OpenSSH_9.9\r\n"),
    "hangs up": _raw(b""),
    "hangs up in the header": _raw(b"HTTP/1.1 200 OK\r\nContent-Type: app"),
    "endless header": _raw(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200),
}


@pytest.mark.parametrize("answer", BAD_ANSWERS.values(), ids=BAD_ANSWERS)
def test_a_bad_answer(
    verifier: IdentityProvider,
    provider: Provider,
    clock: Clock,
    answer: Callable[[Handler], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What is no key set is none: without keys nobody can be judged, and those held before stay in use."""
    provider.answer = answer
    with caplog.at_level(logging.WARNING), pytest.raises(ProviderUnavailable):
        verifier.verify(token())
    assert caplog.messages[0].startswith("The identity provider's key set was not fetched")
    provider.answer = provider.publish
    clock.time += 5
    assert verifier.verify(token()).subject == "ada"
    provider.answer = answer
    clock.time += 600
    hits = provider.hits
    assert verifier.verify(token(claims(exp=START + 5000))).subject == "ada"
    assert provider.hits > hits


def test_the_largest_key_set(verifier: IdentityProvider, provider: Provider) -> None:
    """256 KiB are read to the end."""
    provider.answer = _padded(256 * 1024)
    assert verifier.verify(token()).subject == "ada"


def test_a_length_that_is_only_claimed(verifier: IdentityProvider, provider: Provider) -> None:
    """No memory is set aside for what a header announces."""
    provider.answer = _claimed(str(2**62))
    assert verifier.verify(token()).subject == "ada"


def test_a_provider_that_is_away(verifier: IdentityProvider, provider: Provider, clock: Clock) -> None:
    """The keys held stay in use for a day, and are asked for once a minute; then nothing can be judged any more."""
    verifier.verify(token())
    provider.answer = _status(503)
    late = token(claims(exp=START + 10**6))
    clock.time = START + 600
    for _ in range(20):
        assert verifier.verify(late).subject == "ada"
    assert_refused(verifier, token(header={"kid": "new"}), "no key")
    assert provider.hits == 2
    clock.time = START + 86_399
    assert verifier.verify(late).subject == "ada"
    clock.time = START + 86_400
    with pytest.raises(ProviderUnavailable):
        verifier.verify(late)
    provider.answer = provider.publish
    clock.time += 5
    assert verifier.verify(late).subject == "ada"


def test_a_provider_that_was_never_there(verifier: IdentityProvider, provider: Provider, clock: Clock) -> None:
    """Requests are refused without waiting for each of them, and the provider is tried again after five seconds."""
    provider.answer = _status(503)
    for seconds in (0, 0, 4.9):
        clock.time = START + seconds
        with pytest.raises(ProviderUnavailable):
            verifier.verify(token())
    assert provider.hits == 1
    provider.answer = provider.publish
    clock.time = START + 5
    assert verifier.verify(token()).subject == "ada"


def test_nobody_listens(clock: Clock) -> None:
    """A refused connection is an unavailable provider."""
    with serving(Provider()) as provider:
        verifier = IdentityProvider(ISSUER, AUDIENCE, provider.url, now=clock)
    with pytest.raises(ProviderUnavailable):
        verifier.verify(token())


def test_the_log_shows_no_address(provider: Provider, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """Some providers put a key into the query of their address."""
    provider.answer = _status(503)
    with caplog.at_level(logging.DEBUG), pytest.raises(ProviderUnavailable):
        IdentityProvider(ISSUER, AUDIENCE, f"{provider.url}?code=canary", now=clock).verify(token())
    assert "503" in caplog.text
    assert "canary" not in caplog.text


class Held:
    """An answer that is held back until `release`, and then good."""

    def __init__(self, provider: Provider) -> None:
        self.body = provider.body
        self.asked = threading.Event()
        self.released = threading.Event()

    def __call__(self, request: Handler) -> None:
        """Wait, then answer with what the keys were at first."""
        self.asked.set()
        self.released.wait(HELD_S)
        request.send(self.body)


def _fetching(verifier: IdentityProvider) -> threading.Thread:
    """The fetch that was begun last."""
    fetch = verifier._keys._fetch
    assert fetch
    return fetch


def test_a_provider_that_does_not_answer(
    verifier: IdentityProvider, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request does not hang with the provider: it is refused while the provider still holds the fetch."""
    monkeypatch.setattr(identity, "_TIMEOUT_S", 0.1)
    provider.answer = held = Held(provider)
    with pytest.raises(ProviderUnavailable):
        verifier.verify(token())
    _fetching(verifier).join(HELD_S / 2)
    assert not _fetching(verifier).is_alive(), "the socket has a timeout of its own"
    assert held.asked.wait(HELD_S)
    held.released.set()


def test_a_provider_that_answers_drop_by_drop(
    verifier: IdentityProvider, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each packet comes in time and the answer never ends: the fetch ends all the same."""
    monkeypatch.setattr(identity, "_TIMEOUT_S", 0.3)
    hung_up, stop = threading.Event(), threading.Event()

    def drip(request: Handler) -> None:
        try:
            request.send(b"")
            while not stop.wait(0.01):
                request.wfile.write(b" ")
        except OSError:
            hung_up.set()

    provider.answer = drip
    with pytest.raises(ProviderUnavailable):
        verifier.verify(token())
    assert hung_up.wait(HELD_S)
    stop.set()


def test_others_go_on_while_one_fetches(verifier: IdentityProvider, provider: Provider, clock: Clock) -> None:
    """When the set has become stale and the provider is slow, one request waits and the others use the old keys."""
    verifier.verify(token())
    provider.answer = held = Held(provider)
    clock.time += 600
    late = token(claims(exp=START + 5000))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(verifier.verify, late)
        assert held.asked.wait(HELD_S)
        for _ in range(20):
            assert verifier.verify(late).subject == "ada"
        assert not waiting.done()
        held.released.set()
        assert waiting.result().subject == "ada"
    assert provider.hits == 2


def test_a_fetch_that_was_given_up_brings_nothing_back(
    verifier: IdentityProvider, provider: Provider, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that hung for a minute is older than what came after it: a withdrawn key does not return with it."""
    verifier.verify(token())
    old, asked, released = provider.body, threading.Event(), threading.Event()

    def hang(_: str) -> bytes:
        asked.set()
        released.wait(HELD_S)
        return old

    clock.time += 600
    late = token(claims(exp=START + 5000))
    with monkeypatch.context() as patch:
        patch.setattr(identity, "_download", hang)
        patch.setattr(identity, "_TIMEOUT_S", 0.1)
        assert verifier.verify(late).subject == "ada"
        assert asked.wait(HELD_S)
    hanging = _fetching(verifier)
    provider.keys = [jwk(RSA)]
    clock.time += 60
    assert_refused(verifier, late, "no key")
    released.set()
    hanging.join(HELD_S)
    assert not hanging.is_alive()
    assert_refused(verifier, late, "no key")


def test_many_at_once_cause_one_fetch(verifier: IdentityProvider, provider: Provider) -> None:
    """Twenty requests at the moment of the start: one fetch, and all of them get in."""
    provider.answer = held = Held(provider)
    barrier = threading.Barrier(21)
    tokens = [token(alg=alg) for alg in SIGNERS]

    def sign_in(number: int) -> str:
        barrier.wait()
        return verifier.verify(tokens[number % 3]).subject

    with ThreadPoolExecutor(20) as pool:
        waiting = [pool.submit(sign_in, number) for number in range(20)]
        barrier.wait()
        assert held.asked.wait(HELD_S)
        held.released.set()
        assert {one.result() for one in waiting} == {"ada"}
    assert provider.hits == 1


# The address of the keys


@pytest.mark.parametrize(
    "url",
    ["https://id.example.com/keys", "https://id.example.com:8443/keys?p=b2c", "http://127.0.0.1:8080/keys",
     "http://127.8.9.1/", "http://[::1]:8080/keys", "http://localhost/keys"],
)  # fmt: skip
def test_addresses(url: str) -> None:
    """https anywhere, and http on the machine itself; making the verifier asks for nothing."""
    IdentityProvider(ISSUER, AUDIENCE, url)


@pytest.mark.parametrize(
    "url",
    ["http://id.example.com/keys", "http://10.0.0.1/keys", "http://0.0.0.0/keys", "http://localhost.example.com/",
     "http://127.0.0.1.example.com/", "http://127.0.0.1@example.com/", "https://user:pass@id.example.com/",
     "https://@id.example.com/", "https:///keys", "https:", "//id.example.com/keys", "id.example.com/keys", "",
     "file:///etc/passwd", "ftp://127.0.0.1/keys", "data:application/json,{}", "https://id.example.com/#keys",
     "https://id.example.com/\nkeys", "https://id.example.com/ keys", "https://[::1/keys"],
)  # fmt: skip
def test_addresses_that_are_refused(url: str) -> None:
    """Keys that come over a line that others can change are worth nothing: that is said when the service starts."""
    with pytest.raises(ValueError, match=r".+") as caught:
        IdentityProvider(ISSUER, AUDIENCE, url)
    assert "pass@" not in str(caught.value)


@pytest.mark.parametrize(("issuer", "audience"), [("", AUDIENCE), (ISSUER, "")])
def test_an_issuer_and_an_audience_must_be_named(issuer: str, audience: str) -> None:
    """An empty setting must not match an empty claim."""
    with pytest.raises(ValueError, match="issuer"):
        IdentityProvider(issuer, audience, "https://id.example.com/keys")


def test_the_certificate_is_checked(
    provider: Provider, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over https only a server whose certificate is trusted and names it can give keys."""
    moment = datetime.now(timezone.utc)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(EC.public_key())
        .serial_number(1)
        .not_valid_before(moment - timedelta(days=1))
        .not_valid_after(moment + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(EC, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = EC.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "both.pem").write_bytes(certificate.public_bytes(pem) + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "both.pem")
    provider.socket = context.wrap_socket(provider.socket, server_side=True, do_handshake_on_connect=False)

    def verifier(host: str) -> IdentityProvider:
        return IdentityProvider(ISSUER, AUDIENCE, f"https://{host}:{provider.server_port}/keys", now=clock)

    with pytest.raises(ProviderUnavailable):
        verifier("127.0.0.1").verify(token())
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "both.pem"))
    assert verifier("127.0.0.1").verify(token()).subject == "ada"
    with pytest.raises(ProviderUnavailable):
        verifier("localhost").verify(token())
    assert provider.hits == 1
