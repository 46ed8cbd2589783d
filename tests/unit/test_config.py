"""Settings: read from mounted files, checked, and told about without their secrets."""

import base64
import json
from pathlib import Path

import pytest

from ai_admin.config import (
    CONFIG_NAME,
    ROOT_VARIABLE,
    SECRET_NAME,
    ConfigError,
    config_root,
    load_database_settings,
    load_settings,
    read_config,
    read_secret,
    readings,
    unknown_settings,
)
from tests.conftest import write_mount
from tests.keyrings import entry, text_of

KEY = base64.b64encode(b"canary-canary-canary-canary-curs").decode()
PASSWORD = "canary-password"
RING = text_of(entry("canary", b"canary-canary-canary-canary-cana", "primary"))
REQUIRED = {"PG_HOST": "x", "CURSOR_KEY": KEY, "VAULT_KEYS": RING}
SECRET = REQUIRED | {"PG_HOST": "db.example", "PG_PASSWORD": PASSWORD}


def refusal(root: Path, secret: dict[str, str], config: dict[str, str]) -> list[str]:
    """The lines of the error that these settings are."""
    with pytest.raises(ConfigError) as caught:
        load_settings(write_mount(root, secret, config))
    assert caught.value.__cause__ is None
    return str(caught.value).splitlines()


def test_good_settings(tmp_path: Path) -> None:
    """Values come from the files, without the line break that editors add; the rest has its default."""
    secret = SECRET | {"PG_PORT": "6543\n", "PG_DATABASE": "people\r\n", "PG_USER": "svc", "PG_SSLMODE": "verify-full"}
    config = {"POOL_SIZE": "3", "LOG_LEVEL": "DEBUG", "ALLOWED_ORIGINS": "https://a.example http://b.example:8080"}
    settings = load_settings(write_mount(tmp_path, secret, config))
    assert (settings.secret.pg_host, settings.secret.pg_port) == ("db.example", 6543)
    assert (settings.secret.pg_database, settings.secret.pg_user) == ("people", "svc")
    assert settings.secret.pg_password.get_secret_value() == PASSWORD
    assert settings.secret.cursor_keys() == (base64.b64decode(KEY),)
    assert (settings.config.pool_size, settings.config.log_level) == (3, "DEBUG")
    assert settings.config.lock_timeout_ms == 4000
    assert settings.root == tmp_path


def test_nothing_but_what_is_required(tmp_path: Path) -> None:
    """Host and keys suffice."""
    settings = load_settings(write_mount(tmp_path, REQUIRED, {}))
    assert (settings.secret.pg_port, settings.secret.pg_database, settings.config.pool_size) == (5432, "ai_admin", 8)


ZEROS = base64.b64encode(bytes(32)).decode()
SAME_BYTE = base64.b64encode(b"k" * 32).decode()


@pytest.mark.parametrize("key", [ZEROS, SAME_BYTE])
@pytest.mark.parametrize("name", ["CURSOR_KEY", "AUDIT_SEAL_KEY", "VAULT_KEYS"])
def test_key_of_one_byte_is_refused(tmp_path: Path, name: str, key: str) -> None:
    """A placeholder of an example would seal everything, and everybody has it."""
    ring = json.dumps({"keys": [{"id": "a", "state": "primary", "key": key}]})
    (told,) = refusal(tmp_path, SECRET | {name: ring if name == "VAULT_KEYS" else key}, {})
    assert told.startswith(f"{name}: ")
    assert "must be random bytes, not one byte again and again" in told
    assert key not in told


@pytest.mark.parametrize(
    ("name", "same_as", "told"),
    [
        ("AUDIT_SEAL_KEY", "CURSOR_KEY", "AUDIT_SEAL_KEY: Value error, is the same key as CURSOR_KEY"),
        ("AUDIT_SEAL_KEY", "ring", "AUDIT_SEAL_KEY and the vault key canary are the same"),
        ("CURSOR_KEY", "ring", "CURSOR_KEY and the vault key canary are the same"),
    ],
)
def test_key_with_two_purposes_is_refused(tmp_path: Path, name: str, same_as: str, told: str) -> None:
    """A leak of one purpose would open the other, and neither key can be replaced alone."""
    keys = {"CURSOR_KEY": KEY, "ring": base64.b64encode(b"canary-canary-canary-canary-cana").decode()}
    (line,) = refusal(tmp_path, SECRET | {name: keys[same_as]}, {})
    assert told in line
    assert keys[same_as] not in line


def test_unknown_settings_are_named_with_the_nearest(tmp_path: Path) -> None:
    """`ALLOWED_ORIGIN` was ignored in silence, and the origins stayed `*`; files of Kubernetes are no settings."""
    secret = SECRET | {"PG_PASWORD": "canary", "POOL_SIZE": "3", "..data": "x", "OTHER_PROGRAM": "canary"}
    config = {"ALLOWED_ORIGIN": "https://a.example", "log_level": "INFO", "..2026_11_28_10_00_00.1": "x", ".x": "x"}
    root = write_mount(tmp_path, secret, config)
    assert load_settings(root).config.allowed_origins == "*"
    told = list(unknown_settings(root))
    assert [line.split()[0] for line in told] == [
        "'OTHER_PROGRAM'", "'PG_PASWORD'", "'POOL_SIZE'", "'ALLOWED_ORIGIN'", "'log_level'",
    ]  # fmt: skip
    assert [line.partition("no effect. ")[2] for line in told] == [
        "Remove it.",
        "Did you mean PG_PASSWORD?",
        f"POOL_SIZE belongs in {CONFIG_NAME}.",
        "Did you mean ALLOWED_ORIGINS?",
        "Did you mean LOG_LEVEL?",
    ]
    assert "canary" not in "".join(told)


def test_timeouts_nest(tmp_path: Path) -> None:
    """By default a lock is given up before the statement is, so that the caller hears the true reason."""
    config = load_settings(write_mount(tmp_path, SECRET, {})).config
    assert config.lock_timeout_ms < config.statement_timeout_ms


def test_missing_settings_are_all_told_with_what_to_do(tmp_path: Path) -> None:
    """One run of `config check` names everything that is missing, and where it belongs."""
    assert refusal(tmp_path, {}, {}) == [
        f"PG_HOST: is missing; add the key. It is read from /secrets/<namespace>/{SECRET_NAME}/PG_HOST.",
        f"CURSOR_KEY: is missing; add the key. It is read from /secrets/<namespace>/{SECRET_NAME}/CURSOR_KEY.",
        f"VAULT_KEYS: is missing; add the key. It is read from /secrets/<namespace>/{SECRET_NAME}/VAULT_KEYS.",
    ]


@pytest.mark.parametrize(
    ("key", "value"),
    [("PG_HOST", ""), ("PG_PORT", "x"), ("PG_PORT", "0"), ("PG_PORT", "65536"), ("PG_DATABASE", ""), ("PG_USER", ""),
     ("PG_SSLMODE", "maybe"), ("CURSOR_KEY", ""), ("CURSOR_KEY", "canary!"), ("CURSOR_KEY", "Y2FuYXJ5"),
     ("CURSOR_KEY", KEY + KEY)],
)  # fmt: skip
def test_bad_values_of_the_secret(tmp_path: Path, key: str, value: str) -> None:
    """The message names the key and its place, and never the value: that may be a secret in the wrong file."""
    (line,) = refusal(tmp_path, SECRET | {key: value}, {})
    assert line.startswith(f"{key}: ")
    assert line.endswith(f"It is read from /secrets/<namespace>/{SECRET_NAME}/{key}.")
    assert not value or value not in line
    assert PASSWORD not in line
    assert KEY not in line


@pytest.mark.parametrize(
    ("key", "value"),
    [("LOG_LEVEL", "loud"), ("LOG_LEVEL", "info"), ("POOL_SIZE", "0"), ("POOL_SIZE", "101"), ("POOL_SIZE", ""),
     ("POOL_SIZE", "1.5"), ("POOL_TIMEOUT_MS", "99"), ("CONNECT_TIMEOUT_S", "1"), ("STATEMENT_TIMEOUT_MS", "0"),
     ("STATEMENT_TIMEOUT_MS", "60001"), ("LOCK_TIMEOUT_MS", "-1"), ("MAX_BODY_BYTES", "100"),
     ("ALLOWED_ORIGINS", "console.example"), ("ALLOWED_ORIGINS", "https://a.example/"),
     ("ALLOWED_ORIGINS", "* https://a.example/"), ("TRUSTED_PROXIES", "proxy.example"), ("TRUSTED_PROXIES", "::/0"),
     ("OIDC_JWKS_URL", "https://id.example/keys")],
)  # fmt: skip
def test_bad_values_of_the_config_map(tmp_path: Path, key: str, value: str) -> None:
    """No timeout can be switched off, and no origin be one that browsers never send."""
    (line,) = refusal(tmp_path, SECRET, {key: value})
    assert line.startswith(f"{key}: ")
    assert line.endswith(f"It is read from /configs/<namespace>/{CONFIG_NAME}/{key}.")


PROVIDER = {
    "OIDC_ISSUER": "https://id.example",
    "OIDC_AUDIENCE": "ai-admin",
    "OIDC_JWKS_URL": "https://id.example/keys",
}


@pytest.mark.parametrize(
    "url", ["https://id.example/keys", "http://127.0.0.1:8080/keys", "http://[::1]/", "http://localhost/"]
)
def test_an_identity_provider(tmp_path: Path, url: str) -> None:
    """Its three settings suffice; without TLS it is reached on the same machine alone."""
    config = load_settings(write_mount(tmp_path, SECRET, PROVIDER | {"OIDC_JWKS_URL": url})).config
    assert (config.oidc_issuer, config.oidc_audience, config.oidc_jwks_url) == ("https://id.example", "ai-admin", url)


@pytest.mark.parametrize("lacking", [*PROVIDER, "all but OIDC_AUTHORIZED_PARTIES"])
def test_half_an_identity_provider_is_none(tmp_path: Path, lacking: str) -> None:
    """Whoever forgets one of the three hears of it at the start, and not from people who cannot sign in."""
    config = {key: value for key, value in PROVIDER.items() if key != lacking}
    if lacking not in PROVIDER:
        config = {"OIDC_AUTHORIZED_PARTIES": "console"}
    (line,) = refusal(tmp_path, SECRET, config)
    assert line.startswith("OIDC_JWKS_URL: Value error, OIDC_ISSUER, OIDC_AUDIENCE and OIDC_JWKS_URL go together")


@pytest.mark.parametrize(
    "url",
    ["http://id.example/keys", "http://10.0.0.1/keys", "http://localhost.example/", "ftp://id.example/", "id.example",
     "file:///etc/passwd", "https://", "https://user:password@id.example/", "https://id.example/#keys",
     "https://id.example/a b"],
)  # fmt: skip
def test_keys_come_over_tls_from_a_plain_address(tmp_path: Path, url: str) -> None:
    """Whoever stands in between would otherwise hand out keys, and so make anybody anyone."""
    (line,) = refusal(tmp_path, SECRET, PROVIDER | {"OIDC_JWKS_URL": url})
    assert line.startswith("OIDC_JWKS_URL: Value error, must be")
    assert "password" not in line


CONSOLE = PROVIDER | {
    "OIDC_CLIENT_ID": "console",
    "OIDC_AUTHORIZATION_URL": "https://id.example/authorize",
    "OIDC_TOKEN_URL": "https://id.example/token",
    "PUBLIC_URL": "https://ai.example:8443",
}


def test_sign_in_to_the_console(tmp_path: Path) -> None:
    """Four settings beside those of the provider; the client's secret is one for who has it."""
    settings = load_settings(write_mount(tmp_path, SECRET | {"OIDC_CLIENT_SECRET": "canary"}, CONSOLE))
    assert settings.config.oidc_client_id == "console"
    assert settings.config.public_url == "https://ai.example:8443"
    assert "canary" not in repr(settings)
    assert "canary" not in str(list(readings(tmp_path)))


@pytest.mark.parametrize("lacking", [key for key in CONSOLE if key != "OIDC_AUDIENCE"])
def test_half_a_sign_in_to_the_console_is_none(tmp_path: Path, lacking: str) -> None:
    """Whoever forgets one of them hears of it at the start."""
    lines = refusal(tmp_path, SECRET, {key: value for key, value in CONSOLE.items() if key != lacking})
    assert "go together" in lines[-1]


@pytest.mark.parametrize(
    ("key", "value"),
    [("PUBLIC_URL", "http://ai.example"), ("PUBLIC_URL", "https://ai.example/"), ("PUBLIC_URL", "https://ai.example/x"),
     ("PUBLIC_URL", "https://ai.example?x"), ("PUBLIC_URL", "ai.example"), ("OIDC_TOKEN_URL", "http://id.example/token"),
     ("OIDC_AUTHORIZATION_URL", "javascript:alert(1)"), ("OIDC_AUTHORIZATION_URL", "http://id.example/authorize")],
)  # fmt: skip
def test_sign_in_goes_over_tls(tmp_path: Path, key: str, value: str) -> None:
    """The secret and the codes would otherwise be read on their way, and an origin has no path."""
    assert refusal(tmp_path, SECRET, CONSOLE | {key: value})[0].startswith(f"{key}: Value error, must be")


def test_secrets_do_not_show(tmp_path: Path) -> None:
    """Not in a repr, which a traceback or a debugger prints, nor in what `config check` prints."""
    settings = load_settings(write_mount(tmp_path, SECRET, {}))
    shown = "".join(
        map(str, (settings, [*readings(tmp_path)], settings.secret.model_dump(), settings.secret.model_dump_json()))
    )
    for text in (repr(settings), str(settings.secret), repr(settings.secret.cursor_key), shown):
        assert PASSWORD not in text
        assert KEY not in text
        assert "canary" not in text


def test_readings_tell_value_source_and_fault(tmp_path: Path) -> None:
    """`config check` shows each setting once: where it comes from, and what is wrong with it."""
    secret = {"PG_HOST": "db.example", "PG_PASSWORD": PASSWORD, "PG_PORT": "x"}
    found = {reading.key: reading for reading in readings(write_mount(tmp_path, secret, {"POOL_SIZE": "5"}))}
    assert found["PG_HOST"].shown == "db.example"
    assert found["PG_HOST"].source.endswith(f"secrets/default/{SECRET_NAME}/PG_HOST")
    assert (found["PG_PASSWORD"].shown, found["PG_PASSWORD"].fault) == ("********", None)
    assert found["PG_PORT"].fault
    assert found["CURSOR_KEY"].fault
    assert "is missing" in found["CURSOR_KEY"].fault
    assert (found["POOL_SIZE"].shown, found["POOL_SIZE"].fault) == ("5", None)
    assert (found["LOG_LEVEL"].shown, found["LOG_LEVEL"].source) == ("INFO", "default")
    assert all(reading.meaning for reading in found.values())


def test_files_are_read_anew(tmp_path: Path) -> None:
    """Kubernetes swaps the files under a running pod: a rotated password serves the next connection."""
    write_mount(tmp_path, SECRET, {})
    assert load_database_settings(tmp_path).pg_password.get_secret_value() == PASSWORD
    write_mount(tmp_path, {"PG_PASSWORD": "rotated"}, {})
    assert load_database_settings(tmp_path).pg_password.get_secret_value() == "rotated"


def test_single_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The seed's `get_secret` and `get_config` stand on these: a value, or None where there is none."""
    write_mount(tmp_path, {"A": "1\n"}, {"B": " 2 \n\n", "A": "config"})
    assert (read_secret("A", tmp_path), read_config("A", tmp_path)) == ("1", "config")
    assert (read_config("B", tmp_path), read_secret("B", tmp_path)) == (" 2 ", None)
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path))
    assert (config_root(), read_secret("A")) == (tmp_path, "1")
    monkeypatch.delenv(ROOT_VARIABLE)
    assert config_root() == Path("/")


def test_the_environment_holds_no_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Environment variables end in crash reports and child processes; no value is taken from there."""
    monkeypatch.setenv("PG_HOST", "elsewhere")
    monkeypatch.setenv("POOL_SIZE", "99")
    monkeypatch.setenv("PG_PASSWORD", "from-environment")
    settings = load_settings(write_mount(tmp_path, REQUIRED, {}))
    assert (settings.secret.pg_host, settings.config.pool_size) == ("x", 8)
    assert settings.secret.pg_password.get_secret_value() == ""
