"""Tokens of an identity provider: what is accepted, and each way to be refused."""

import hashlib
import hmac
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ai_admin.access.identity import LONGEST_TOKEN, Identity, IdentityProvider, TokenInvalid
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
    Provider,
    Signer,
    assert_refused,
    b64,
    claims,
    jwk,
    serving,
    signature,
    token,
    unsigned,
)

# What is accepted


@pytest.mark.parametrize("alg", SIGNERS)
def test_a_token_of_the_provider(verifier: IdentityProvider, provider: Provider, alg: str) -> None:
    """People can sign in with each kind of key that providers use, and the keys are fetched once."""
    for _ in range(3):
        assert verifier.verify(token(alg=alg)) == Identity(ISSUER, "ada", None, START + 300)
    assert provider.hits == 1


@pytest.mark.parametrize("typ", [..., "JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt"])
def test_types_of_token(verifier: IdentityProvider, typ: object) -> None:
    """ID tokens and access tokens, however a provider spells their type (RFC 7515, 4.1.9; RFC 9068, 4)."""
    assert verifier.verify(token(header={"typ": typ})).subject == "ada"


def test_unknown_members_are_no_obstacle(verifier: IdentityProvider) -> None:
    """Providers add header members and claims of their own, and thumbprints that nobody needs."""
    header = {"x5t": "abc", "x5t#S256": "def", "nonce": "n" * 900, "cty": "json"}
    assert verifier.verify(token(claims(roles=["a"], realm={"nested": [None, 1.5]}), header)).subject == "ada"


@pytest.mark.parametrize("audience", [AUDIENCE, [AUDIENCE], [AUDIENCE, AUDIENCE]])
def test_one_audience(verifier: IdentityProvider, audience: object) -> None:
    """With us as its only audience, it does not matter which client got the token."""
    assert verifier.verify(token(claims(aud=audience, azp="some-app"))).subject == "ada"


def test_several_audiences(provider: Provider, clock: Clock) -> None:
    """A token for others too is taken from parties that are trusted, of which this service is one."""
    verifier = IdentityProvider(ISSUER, AUDIENCE, provider.url, authorized_parties=frozenset({"console"}), now=clock)
    for party in (AUDIENCE, "console"):
        assert verifier.verify(token(claims(aud=["account", AUDIENCE], azp=party))).subject == "ada"


@pytest.mark.parametrize(
    ("given", "known"),
    [
        ({"email": "Ada@Example.com", "email_verified": True}, "Ada@Example.com"),
        ({"email": "ada@example.com"}, None),
        ({"email": "ada@example.com", "email_verified": False}, None),
        ({"email": "ada@example.com", "email_verified": "true"}, None),
        ({"email": "ada@example.com", "email_verified": 1}, None),
        ({"email_verified": True}, None),
        ({"email": "", "email_verified": True}, None),
        ({"email": ["ada@example.com"], "email_verified": True}, None),
        ({"email": "ada@example.com\x00", "email_verified": True}, None),
        ({"email": "ada@example.com\nx", "email_verified": True}, None),
        ({"email": "\ud800@example.com", "email_verified": True}, None),
        ({"email": "\u0430da@example.com", "email_verified": True}, None),
        ({"email": "a" * 243 + "@example.com", "email_verified": True}, None),
    ],
)
def test_an_email_counts_when_it_is_verified(
    verifier: IdentityProvider, given: dict[str, Any], known: str | None
) -> None:
    """Nobody becomes another by writing that person's address into their own profile (litellm #36942)."""
    assert verifier.verify(token(claims(**given))).email == known


@pytest.mark.parametrize("subject", ["a", "A|b/c d@é", "x" * 255])
def test_subjects(verifier: IdentityProvider, subject: str) -> None:
    """The subject comes through as it is, letter by letter."""
    assert verifier.verify(token(claims(sub=subject))).subject == subject


def test_the_longest_token(verifier: IdentityProvider) -> None:
    """8 KiB are taken, and not one character more."""
    sizes = {LONGEST_TOKEN, LONGEST_TOKEN + 1}
    tokens = (token(claims(pad="x" * pad), {"pad": more}) for pad in range(5800, 5900) for more in ("", "x", "xx"))
    by_size = {len(one): one for one in tokens if len(one) in sizes}
    assert verifier.verify(by_size[LONGEST_TOKEN]).subject == "ada"
    assert_refused(verifier, by_size[LONGEST_TOKEN + 1], "longer")


@pytest.mark.parametrize(
    ("changes", "good"),
    [
        ({"exp": START + 0.5}, True),
        ({"exp": START}, True),
        ({"exp": START - 29}, True),
        ({"exp": START - 30}, False),
        ({"exp": START - 31}, False),
        ({"exp": 0}, False),
        ({"nbf": START + 30}, True),
        ({"nbf": START + 31}, False),
        ({"iat": START + 30}, True),
        ({"iat": START + 31}, False),
        ({"iat": ...}, True),
        ({"iat": int(START), "nbf": 0}, True),
    ],
)
def test_times_with_half_a_minute_of_leeway(verifier: IdentityProvider, changes: dict[str, Any], good: bool) -> None:
    """Clocks differ a little: nobody is turned away for that, and an expired token lives no longer than that."""
    if good:
        assert verifier.verify(token(claims(**changes))).subject == "ada"
    else:
        name = next(iter(changes))
        assert_refused(verifier, token(claims(**changes)), "exp: expired" if name == "exp" else f"{name}: not yet")


def test_a_token_expires_while_it_is_in_use(verifier: IdentityProvider, clock: Clock) -> None:
    """Nothing remembers that a token was good."""
    good = token()
    assert verifier.verify(good).expires_at == START + 300
    clock.time = START + 330
    assert_refused(verifier, good, "exp: expired")


# Claims that are refused

WRONG_CLAIMS: list[tuple[str, list[Any], str]] = [
    ("iss", [..., None, "", "id.example.com", ISSUER + "/", ISSUER.upper(), [ISSUER], {ISSUER: 1}, 5, True], "iss"),
    ("aud", [..., None, "", "other", AUDIENCE + "x", AUDIENCE.upper(), [], ["other"], {AUDIENCE: 1}, 5], "aud"),
    ("aud", [[AUDIENCE, 5], [AUDIENCE, None], [[AUDIENCE]]], "aud"),
    ("aud", [[AUDIENCE, "other"], ["other", AUDIENCE], [AUDIENCE, AUDIENCE, "other"], [AUDIENCE, ""]], "azp"),
    ("exp", [...], "exp: missing"),
    ("exp", [None, "", str(int(START + 300)), True, False, [START + 300], {}], "exp: not a time"),
    ("exp", [-1, 10**11 * 3, 10**30, 1e300, 253_402_300_800], "exp: not a time"),
    ("nbf", [None, "", str(int(START)), True, False, [START], {}, -1, 10**30, 1e300], "nbf: not a time"),
    ("iat", [None, "", str(int(START)), True, False, [START], {}, -1, 10**30, 1e300], "iat: not a time"),
    ("sub", [..., None, "", 5, True, ["ada"], {"ada": 1}, "x" * 256], "sub"),
    ("sub", ["ada\x00", "ada\n", "\x1b[2Jada", "ada\ud800", "ada\u202e", "ada\u2028"], "sub"),
    ("cnf", [{"jkt": "x"}, {"x5t#S256": "x"}, None], "cnf"),
]


@pytest.mark.parametrize(
    ("name", "value", "reason"), [(name, value, reason) for name, values, reason in WRONG_CLAIMS for value in values]
)
def test_wrong_claims(verifier: IdentityProvider, name: str, value: object, reason: str) -> None:
    """Tokens of other issuers, for other services, without an end or without a person open nothing."""
    assert_refused(verifier, token(claims(**{name: value})), reason)


@pytest.mark.parametrize("party", [..., None, "", "stranger", AUDIENCE.upper(), [AUDIENCE], {AUDIENCE: 1}, True])
def test_several_audiences_and_a_stranger(verifier: IdentityProvider, party: object) -> None:
    """A service that is a further audience of the token cannot use it here for itself."""
    assert_refused(verifier, token(claims(aud=[AUDIENCE, "other"], azp=party)), "azp")


def _with(name: str, raw: bytes) -> bytes:
    """Good claims, one of which is written in this way."""
    return json.dumps(claims(**{name: "?"})).encode().replace(b'"?"', raw)


PLAIN = json.dumps(claims()).encode()
PAYLOADS = {
    "nothing": b"",
    "null": b"null",
    "list": b"[]",
    "string": b'"text"',
    "number": b"5",
    "cut": PLAIN[:-1],
    "more behind": PLAIN + b"x",
    "UTF-16": PLAIN.decode().encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf" + PLAIN,
    "not UTF-8": _with("sub", b'"\xff"'),
    "NaN": _with("exp", b"NaN"),
    "Infinity": _with("exp", b"Infinity"),
    "-Infinity": _with("x", b"-Infinity"),
    "5000 digits": _with("x", b"9" * 5000),
    "nested deeply": _with("x", b"[" * 5000),
    "sub twice": PLAIN[:-1] + b', "sub": "owner"}',
    "sub twice, escaped": PLAIN[:-1] + b', "s\\u0075b": "owner"}',
    "twice further in": _with("x", b'{"a": 1, "a": 2}'),
    "a token in a token": token().encode(),
}


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
def test_a_payload_that_can_be_read_in_two_ways_or_none(verifier: IdentityProvider, payload: bytes) -> None:
    """Signed by the provider, yet not one JSON object that every reader understands alike; nested tokens too."""
    assert_refused(verifier, token(payload), "not a JSON object")


def test_a_number_beyond_all_numbers(verifier: IdentityProvider) -> None:
    """1e999 is read as infinity, and a token with it would never end."""
    assert_refused(verifier, token(_with("exp", b"1e999")), "exp: not a time")


# Headers that are refused

WRONG_HEADERS: list[tuple[str, list[Any], str]] = [
    ("alg", [..., None, "", 5, True, ["EdDSA"], {"EdDSA": 1}], "alg"),
    ("alg", ["none", "None", "NONE", "nOnE", "none ", "HS256", "HS384", "HS512", "hs256"], "alg"),
    ("alg", ["RS384", "RS512", "PS256", "ES384", "ES512", "ES256K", "Ed25519", "Ed448", "eddsa", " EdDSA"], "alg"),
    ("alg", ["RSA-OAEP", "dir", "A256KW", "EdDSA\x00"], "alg"),
    ("kid", [None, 5, True, ["EdDSA"], {"EdDSA": 1}], "kid"),
    ("typ", [None, "", 5, ["JWT"], "JWE", "JOSE", "logout+jwt", "secevent+jwt", "dpop+jwt", "xapplication/jwt"], "typ"),
    ("crit", [[], ["exp"], ["b64"], ["kid"], "exp", None], "header"),
    ("b64", [False, True, None], "header"),
    ("jwk", [jwk(ED), {}, None], "header"),
    ("jku", ["https://id.example.com/keys", "", None], "header"),
    ("x5c", [["MIIB"], None], "header"),
    ("x5u", ["https://id.example.com/cert", None], "header"),
]


@pytest.mark.parametrize(
    ("name", "value", "reason"), [(name, value, reason) for name, values, reason in WRONG_HEADERS for value in values]
)
def test_wrong_headers(verifier: IdentityProvider, name: str, value: object, reason: str) -> None:
    """Even signed by the provider: no other algorithm, type or extension, and no key by way of the token."""
    assert_refused(verifier, token(header={name: value}), reason)


@pytest.mark.parametrize("alg", ["none", "None", "nOnE", "NONE", "RS256", "ES256", "EdDSA"])
@pytest.mark.parametrize("end", ["", ".", ".AA", "..", "." + b64(b"none"), "." + b64(bytes(64)), "." + b64(bytes(256))])
def test_no_signature(verifier: IdentityProvider, alg: str, end: str) -> None:
    """A token that nobody has signed proves nothing, whatever it says of itself."""
    kid = alg if alg in SIGNERS else "EdDSA"
    with pytest.raises(TokenInvalid):
        verifier.verify(unsigned({"alg": alg, "kid": kid}, claims()) + end)


PUBLIC = RSA.public_key()
SECRETS = {
    "PEM": PUBLIC.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    "PEM, PKCS #1": PUBLIC.public_bytes(Encoding.PEM, PublicFormat.PKCS1),
    "DER": PUBLIC.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    "DER, PKCS #1": PUBLIC.public_bytes(Encoding.DER, PublicFormat.PKCS1),
    "JWK": json.dumps(jwk(RSA)).encode(),
    "modulus": jwk(RSA)["n"].encode(),
    "nothing": b"",
}


@pytest.mark.parametrize("alg", ["HS256", "hs256", "RS256", "ES256", "EdDSA"])
@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
def test_a_public_key_is_no_secret(verifier: IdentityProvider, alg: str, secret: bytes) -> None:
    """The public key is known to all: it must not serve as the secret of an HMAC (RFC 8725, 2.1)."""
    for kid in ("RS256", alg):
        signed = unsigned({"alg": alg, "kid": kid}, claims())
        forged = f"{signed}.{b64(hmac.digest(secret, signed.encode(), hashlib.sha256))}"
        with pytest.raises(TokenInvalid):
            verifier.verify(forged)


def test_a_published_secret_signs_nothing(verifier: IdentityProvider, provider: Provider) -> None:
    """A symmetric key in the set, which everybody can read, is passed over, under its own algorithm and any other."""
    provider.keys.append({"kty": "oct", "kid": "oct", "alg": "HS256", "k": b64(b"secret" * 8)})
    for alg, reason in (("HS256", "alg"), ("RS256", "no key")):
        signed = unsigned({"alg": alg, "kid": "oct"}, claims())
        mac = hmac.digest(b"secret" * 8, signed.encode(), hashlib.sha256)
        assert_refused(verifier, f"{signed}.{b64(mac)}", reason)


@pytest.mark.parametrize("alg", SIGNERS)
@pytest.mark.parametrize("kid", SIGNERS)
def test_an_algorithm_belongs_to_a_key(verifier: IdentityProvider, alg: str, kid: str) -> None:
    """A key is used with the algorithm of its type alone."""
    if alg == kid:
        assert verifier.verify(token(alg=alg)).subject == "ada"
    else:
        assert_refused(verifier, token(header={"kid": kid}, alg=alg), "no key")


@pytest.mark.parametrize("alg", SIGNERS)
def test_a_key_of_another(verifier: IdentityProvider, alg: str) -> None:
    """Who has a key of the same kind under the same id is still not the provider."""
    others: dict[str, Signer] = {
        "RS256": RSA_OTHER,
        "ES256": ec.generate_private_key(ec.SECP256R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    }
    assert_refused(verifier, token(alg=alg, by=others[alg]), "not the provider's signature")


def test_no_key_from_the_token(verifier: IdentityProvider) -> None:
    """A key that the token brings along, or an address to fetch it from, is never used: nothing goes there."""
    with serving(Provider()) as attacker:
        attacker.keys = [jwk(RSA_OTHER)]
        brought: list[dict[str, Any]] = [
            {"jwk": jwk(RSA_OTHER)},
            {"jku": attacker.url},
            {"x5u": attacker.url},
            {"kid": attacker.url},
        ]
        for header in brought:
            with pytest.raises(TokenInvalid):
                verifier.verify(token(header=header, alg="RS256", by=RSA_OTHER))
        assert attacker.hits == 0


@pytest.mark.parametrize(
    "kid",
    ["", " ", "../../../../dev/null", "/dev/null", "file:///etc/passwd", "' OR '1'='1", "x' UNION SELECT 'a'; --",
     "EdDSA\x00", "eddsa", "EdDSA ", "${jndi:ldap://x}", "|id", "\ud800", "x" * 3000, "__class__", "None", "keys"],
)  # fmt: skip
def test_a_key_id_is_only_looked_up(verifier: IdentityProvider, kid: str) -> None:
    """It names no file, no query and no command: it is in the set or it is not."""
    assert_refused(verifier, token(header={"kid": kid}), "no key")


def test_a_token_without_key_id(verifier: IdentityProvider, provider: Provider) -> None:
    """Where there are several keys, nothing is guessed; a provider with one key need not name it."""
    assert_refused(verifier, token(header={"kid": ...}), "no key")
    provider.keys = [jwk(ED, kid=None), jwk(RSA, use="enc")]
    verifier = IdentityProvider(ISSUER, AUDIENCE, provider.url, now=Clock())
    assert verifier.verify(token(header={"kid": ...})).subject == "ada"
    assert_refused(verifier, token(header={"kid": ...}, alg="RS256"), "no key")
    assert_refused(verifier, token(header={"kid": "x"}), "no key")


# Tokens that are not well formed

GOOD = token()
HEADER, PAYLOAD, SIGNATURE = GOOD.split(".")
# Spelled in another way, each decodes to the very bytes that the provider signed, if the decoder is lax.
SPELLINGS = {
    "white space": [f" {GOOD}", f"{GOOD} ", f"{GOOD}\n", f"{GOOD}\r\n", f"{HEADER}.\t{PAYLOAD}.{SIGNATURE}"],
    "padding": [f"{GOOD}==", f"{GOOD}=", f"{HEADER}=.{PAYLOAD}.{SIGNATURE}", f"{HEADER}.{PAYLOAD}==.{SIGNATURE}"],
    "last bits": [GOOD[:-1] + chr(ord(GOOD[-1]) + 1)],
    "dots": [f".{GOOD}", f"{GOOD}.", f"{HEADER}..{PAYLOAD}.{SIGNATURE}", GOOD.replace(".", ","), "." * 8000],
    "parts": [HEADER, f"{HEADER}.{PAYLOAD}", f"{GOOD}.{SIGNATURE}", "", ".", "Bearer", f"Bearer {GOOD}"],
    "JWE": [f"{GOOD}.{PAYLOAD}.{SIGNATURE}", f"{HEADER}..{PAYLOAD}.{PAYLOAD}.{SIGNATURE}"],
    "JSON": [json.dumps({"protected": HEADER, "payload": PAYLOAD, "signature": SIGNATURE})],
    "letters": [f"{GOOD}\x00", f"\ufeff{GOOD}", f"{GOOD}!", f"{GOOD}é", GOOD.replace(".", "\uff0e"), GOOD + "\ud800"],
}  # fmt: skip


# The keys are new in each process: ids made of tokens would differ between the workers of a parallel run.
@pytest.mark.parametrize(
    "spelling",
    [
        pytest.param(spelling, id=f"{name} {number}")
        for name, spellings in SPELLINGS.items()
        for number, spelling in enumerate(spellings)
    ],
)
def test_a_token_has_one_spelling(verifier: IdentityProvider, spelling: str) -> None:
    """Three parts in canonical base64url and nothing around them: no second text passes as the same token."""
    assert verifier.verify(GOOD).subject == "ada"
    assert_refused(verifier, spelling, "not three parts")


def test_plus_and_slash_are_no_second_spelling(verifier: IdentityProvider) -> None:
    """The two alphabets of base64 are not mixed."""
    mixed = next(one for one in (token(alg="ES256") for _ in range(1000)) if "-" in one and "_" in one)
    assert verifier.verify(mixed).subject == "ada"
    for one, other in (("-", "+"), ("_", "/")):
        assert_refused(verifier, mixed.replace(one, other), "not three parts")


@pytest.mark.parametrize(
    "header", [b"", b"null", b"[]", b"{", b'{"alg": NaN}', b'{"alg":"EdDSA","kid":"x","kid":"EdDSA"}']
)
def test_a_header_that_can_be_read_in_two_ways_or_none(verifier: IdentityProvider, header: bytes) -> None:
    """A header is one JSON object of distinct members."""
    signed = unsigned(header, claims())
    assert_refused(verifier, f"{signed}.{b64(signature(ED, signed.encode()))}", "not a JSON object")


@pytest.mark.parametrize("alg", SIGNERS)
def test_every_character_counts(verifier: IdentityProvider, alg: str) -> None:
    """No character of a token can be changed or cut off: neither header, claims nor signature."""
    good = token(alg=alg)
    for index, letter in enumerate(good):
        for changed in (good[:index] + ("A" if letter != "A" else "B") + good[index + 1 :], good[:index]):
            with pytest.raises(TokenInvalid):
                verifier.verify(changed)


def test_other_claims_under_a_good_signature(verifier: IdentityProvider) -> None:
    """Nobody puts another name into their token."""
    changed = f"{unsigned({'alg': 'EdDSA', 'kid': 'EdDSA', 'typ': 'JWT'}, claims(sub='owner'))}.{SIGNATURE}"
    assert changed.startswith(f"{HEADER}.")
    assert_refused(verifier, changed, "not the provider's signature")


@pytest.mark.parametrize("alg", SIGNERS)
@pytest.mark.parametrize("size", [0, 1, 32, 63, 64, 65, 70, 255, 256, 257, 512])
def test_signatures_of_any_size(verifier: IdentityProvider, alg: str, size: int) -> None:
    """Zeros and ones of whatever length are refused, and do not trip the library up."""
    for byte in (b"\x00", b"\xff"):
        assert_refused(verifier, f"{token(alg=alg).rpartition('.')[0]}.{b64(byte * size)}", "not the provider's")


def test_a_signature_in_another_form(verifier: IdentityProvider) -> None:
    """ES256 is 64 bytes (RFC 7518, 3.4): the same signature in DER is a second spelling."""
    signed = unsigned({"alg": "ES256", "kid": "ES256"}, claims())
    in_der = EC.sign(signed.encode(), ec.ECDSA(hashes.SHA256()))
    assert_refused(verifier, f"{signed}.{b64(in_der)}", "not the provider's")


def _never_fetching() -> IdentityProvider:
    """A verifier for what must be refused before any key is needed."""
    return IdentityProvider(ISSUER, AUDIENCE, "http://127.0.0.1:9/keys", now=Clock())


@settings(derandomize=True, deadline=None)
@given(st.text() | st.lists(st.binary().map(b64), min_size=3, max_size=3).map(".".join))
@example("a" * 100_000)
@example("." * 100_000)
def test_anything_else_is_refused(text: str) -> None:
    """There is one error for all of it, before any key is fetched."""
    with pytest.raises(TokenInvalid):
        _never_fetching().verify(text)
