"""The settings: each declared once here, read from the files that Kubernetes mounts for a Secret or ConfigMap.

Fission mounts a Secret at `/secrets/<namespace>/<name>/<key>` and a ConfigMap at
`/configs/<namespace>/<name>/<key>`. The files live under a root, which is `/` in a pod; a local run has
a folder of the same form and names it in `AI_ADMIN_ROOT`. No setting is read from the environment.
Files change under a running pod, so `read_secret` and `read_config` read them anew at every call.
"""

import base64
import binascii
import os
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal, TypeVar
from urllib.parse import urlsplit

from nacl.secret import Aead
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
)
from pydantic.fields import FieldInfo

from ai_admin import ROOT_VARIABLE as ROOT_VARIABLE
from ai_admin.access.addresses import require_https
from ai_admin.access.proxies import networks
from ai_admin.vault.keyring import KeyRing, require_random

SECRET_NAME = "fission-ai-work-env"  # noqa: S105  the name of the Secret, not its content
CONFIG_NAME = "fission-ai-work-config"
Section = TypeVar("Section", bound=BaseModel)
Mount = Literal["secrets", "configs"]
_NAMES: dict[Mount, str] = {"secrets": SECRET_NAME, "configs": CONFIG_NAME}
_MASK = "********"


class ConfigError(Exception):
    """A setting is missing or wrong. The message says which, where it is looked for, and what to do."""


def config_root() -> Path:
    """The folder under which `secrets/` and `configs/` are mounted."""
    return Path(os.environ.get(ROOT_VARIABLE, "/"))


def _mounted(kind: Mount, key: str, root: Path) -> Path | None:
    """The file of a key. A pod mounts its own namespace alone, so the first match is the only one."""
    return next(iter(sorted(root.glob(f"{kind}/*/{_NAMES[kind]}/{key}"))), None)


def _read(kind: Mount, key: str, root: Path | None) -> str | None:
    path = _mounted(kind, key, root or config_root())
    return None if path is None else path.read_text(encoding="utf-8").rstrip("\r\n")


def read_secret(key: str, root: Path | None = None) -> str | None:
    """The value of `key` in the mounted Secret, without a final line break; None where there is none."""
    return _read("secrets", key, root)


def read_config(key: str, root: Path | None = None) -> str | None:
    """The value of `key` in the mounted ConfigMap, without a final line break; None where there is none."""
    return _read("configs", key, root)


def secret_file(key: str, root: Path | None = None) -> Path | None:
    """The file of `key` in the mounted Secret; None where there is none."""
    return _mounted("secrets", key, root or config_root())


def _key_of_32_bytes(value: SecretStr) -> SecretStr:
    try:
        raw = base64.b64decode(value.get_secret_value(), validate=True)
    except binascii.Error:
        raise ValueError("must be base64") from None
    if len(raw) != Aead.KEY_SIZE:
        raise ValueError(f"must be 32 bytes in base64, not {len(raw)}")
    require_random(raw)
    return value


def _key_of_32_bytes_or_none(value: SecretStr) -> SecretStr:
    return _key_of_32_bytes(value) if value.get_secret_value() else value


def _cursor_keys(value: SecretStr) -> SecretStr:
    keys = value.get_secret_value().split()
    if not keys:
        raise ValueError("must be 32 bytes in base64, not 0")
    for key in keys:
        _key_of_32_bytes(SecretStr(key))
    if len(set(keys)) != len(keys):
        raise ValueError("has the same key twice")
    return value


def _keys_of(value: SecretStr) -> tuple[bytes, ...]:
    """The keys of CURSOR_KEY, the one that seals first."""
    return tuple(map(base64.b64decode, value.get_secret_value().split()))


def _key_ring(value: SecretStr, info: ValidationInfo) -> SecretStr:
    ring = KeyRing.parse(value)
    for key in _keys_of(info.data.get("cursor_key", SecretStr(""))):
        _require_own_key(key, "CURSOR_KEY", ring)
    return value


def _seal_key(value: SecretStr, info: ValidationInfo) -> SecretStr:
    key = _bytes_of(_key_of_32_bytes_or_none(value))
    if key and key in _keys_of(info.data.get("cursor_key", SecretStr(""))):
        raise ValueError("is the same key as CURSOR_KEY; make a key for each purpose")
    if info.data.get("vault_keys"):
        _require_own_key(key, "AUDIT_SEAL_KEY", KeyRing.parse(info.data["vault_keys"]))
    return value


def _require_own_key(key: bytes | None, name: str, ring: KeyRing) -> None:
    """Raise `ValueError` where this key is one of the vault too: a leak of one purpose would open the other."""
    for vault_key in ring.keys:
        if vault_key.key.get_secret_value() == key:
            raise ValueError(f"{name} and the vault key {vault_key.id} are the same; make a key for each purpose")


def _bytes_of(key: SecretStr) -> bytes:
    return base64.b64decode(key.get_secret_value())


def _origins(value: str) -> str:
    for origin in value.split():
        if origin != "*" and ("://" not in origin or origin.rstrip("/") != origin):
            raise ValueError(f"{origin!r} is no origin: write it as https://host or https://host:port")
    return value


def _proxies(value: str) -> str:
    networks(value)
    return value


def _key_set_url(value: str, info: ValidationInfo) -> str:
    """The last setting of the identity provider: all of them are there, or none is."""
    named = [info.data.get("oidc_issuer"), info.data.get("oidc_audience"), value]
    if any([*named, info.data.get("oidc_authorized_parties")]) and not all(named):
        raise ValueError("OIDC_ISSUER, OIDC_AUDIENCE and OIDC_JWKS_URL go together: set all three, or none")
    if value:
        require_https(value)
    return value


def _provider_url(value: str) -> str:
    if value:
        require_https(value)
    return value


def _public_url(value: str, info: ValidationInfo) -> str:
    """The last setting of the console's sign-in with the provider: all of them are there, or none is."""
    named = [info.data.get(key) for key in ("oidc_client_id", "oidc_authorization_url", "oidc_token_url")]
    if any(named) and not all([*named, value, info.data.get("oidc_jwks_url")]):
        raise ValueError(
            "OIDC_CLIENT_ID, OIDC_AUTHORIZATION_URL, OIDC_TOKEN_URL and PUBLIC_URL go together, beside OIDC_ISSUER, "
            "OIDC_AUDIENCE and OIDC_JWKS_URL"
        )
    if value:
        require_https(value)
        parts = urlsplit(value)
        if parts.path or parts.query:
            raise ValueError("must be an origin: write it as https://host or https://host:port")
    return value


class DatabaseSettings(BaseModel):
    """How to reach PostgreSQL. All from the Secret, and read again whenever a connection is made."""

    model_config = ConfigDict(alias_generator=str.upper, hide_input_in_errors=True)

    pg_host: str = Field(min_length=1, description="Host name, address, or folder of the Unix socket.")
    pg_port: int = Field(default=5432, ge=1, le=65535, description="Port of PostgreSQL.")
    pg_database: str = Field(default="ai_admin", min_length=1, description="Name of the database.")
    pg_user: str = Field(default="ai_admin", min_length=1, description="Role to connect as.")
    pg_password: SecretStr = Field(default=SecretStr(""), description="Password of that role.")
    pg_sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] = Field(
        default="prefer", description="TLS to PostgreSQL; verify-full is what production wants."
    )


class SecretSettings(DatabaseSettings):
    """What the Secret holds."""

    cursor_key: Annotated[SecretStr, AfterValidator(_cursor_keys)] = Field(
        description="32 random bytes in base64 that seal the cursors of lists and what the console's forms take back. "
        "Several, separated by spaces, while it is changed: the first seals, and all open."
    )

    vault_keys: Annotated[SecretStr, AfterValidator(_key_ring)] = Field(
        description="The key ring of the vault, in JSON; docs/security.md has its form. A change is taken up within a "
        "second of reaching the file.",
    )

    audit_seal_key: Annotated[SecretStr, AfterValidator(_seal_key)] = Field(
        default=SecretStr(""),
        description="32 random bytes in base64: the Ed25519 key that signs the seals of the audit log. Without it "
        "nothing is sealed.",
    )

    oidc_client_secret: SecretStr = Field(
        default=SecretStr(""),
        description="Secret of the client OIDC_CLIENT_ID, sent as HTTP Basic; empty for a public client.",
    )

    def cursor_keys(self) -> tuple[bytes, ...]:
        """The sealing key, then those that only open; 32 bytes each."""
        return _keys_of(self.cursor_key)

    def audit_seal_key_bytes(self) -> bytes:
        """The seed of the signing key: 32 bytes, or none where nothing is to be sealed."""
        return _bytes_of(self.audit_seal_key)


class ConfigSettings(BaseModel):
    """What the ConfigMap holds. Everything has a default."""

    model_config = ConfigDict(alias_generator=str.upper, hide_input_in_errors=True)

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="Lowest level that is logged."
    )
    allowed_origins: Annotated[str, AfterValidator(_origins)] = Field(
        default="*", description="Origins that browsers may call from, separated by spaces; * is any."
    )
    trusted_proxies: Annotated[str, AfterValidator(_proxies)] = Field(
        default="",
        description="Addresses and networks (CIDR) of the proxies before the service, separated by spaces: from them "
        "alone X-Forwarded-For is believed. Empty: the caller's address is that of the connection.",
    )
    pool_size: int = Field(default=8, ge=1, le=100, description="Most connections of one process.")
    pg_pooling: Literal["session", "transaction"] = Field(
        default="session",
        description="`transaction` where PgBouncer in that mode stands before PostgreSQL: nothing is prepared, and no "
        "options are sent.",
    )
    pool_timeout_ms: int = Field(
        default=4000, ge=100, le=60_000, description="Longest wait for a free connection, in milliseconds."
    )
    connect_timeout_s: int = Field(
        default=3, ge=2, le=60, description="Longest wait for PostgreSQL to accept a connection, in seconds."
    )
    statement_timeout_ms: int = Field(
        default=5000, ge=100, le=60_000, description="Longest time one statement may take, in milliseconds."
    )
    lock_timeout_ms: int = Field(
        default=4000, ge=100, le=60_000, description="Longest wait for a row that is locked, in milliseconds."
    )
    max_body_bytes: int = Field(
        default=1_048_576, ge=65_536, le=67_108_864, description="Largest request body, in bytes."
    )
    body_memory_bytes: int = Field(
        default=67_108_864,
        ge=1_048_576,
        le=68_719_476_736,
        description="Memory for request bodies in one process, in bytes. One caller gets a quarter. At least four "
        "times MAX_BODY_BYTES is used; on the server alone.",
    )
    max_import_bytes: int = Field(
        default=268_435_456,
        ge=65_536,
        le=68_719_476_736,
        description="Largest file of users that an import over HTTP takes, in bytes; on the server alone.",
    )
    credential_cache_s: int = Field(
        default=3,
        ge=0,
        le=5,
        description="How long a process goes by what it has read of a credential, in seconds: after that time a "
        "revoked key and a suspended user are out.",
    )
    rate_per_second: int = Field(
        default=2000,
        ge=1,
        le=1_000_000,
        description="Requests a second that a process takes from one caller; twice that at once after a pause.",
    )
    reveals_per_second: int = Field(
        default=10,
        ge=1,
        le=10_000,
        description="Credentials a second that a process reveals to one caller; twice that at once after a pause.",
    )
    writes_per_second: int = Field(
        default=200,
        ge=1,
        le=1_000_000,
        description="Changes a second that a process takes from one caller who has a scope for them; twice that at "
        "once after a pause. A file that is imported is one change.",
    )
    own_writes_per_minute: int = Field(
        default=30,
        ge=1,
        le=1_000_000,
        description="Changes a minute that a process takes from one caller to their own keys; twice that at once "
        "after a pause.",
    )
    sign_ins_per_minute: int = Field(
        default=10,
        ge=1,
        le=1_000_000,
        description="Sign-ins a minute to the console that a process takes from one user; twice that at once after a "
        "pause.",
    )
    sessions_per_user: int = Field(
        default=20,
        ge=1,
        le=1000,
        description="Sessions of the console that one user has at most; a new one ends the oldest.",
    )
    secret_history_days: int = Field(
        default=30,
        ge=0,
        le=3650,
        description="Days for which a credential that was replaced or removed can be restored; later changes erase it.",
    )
    body_timeout_s: int = Field(
        default=15,
        ge=1,
        le=600,
        description="Longest wait for a request's body, and for each part of a file of users on its way in or out, "
        "in seconds; on the server alone.",
    )
    oidc_issuer: str = Field(
        default="",
        description="Issuer (iss) of the identity provider whose tokens sign people in. Empty: API keys alone do.",
    )
    oidc_audience: str = Field(default="", description="Audience (aud) that a token of the provider must name.")
    oidc_authorized_parties: str = Field(
        default="",
        description="Clients (azp), separated by spaces, whose tokens may name other audiences beside ours.",
    )
    oidc_jwks_url: Annotated[str, AfterValidator(_key_set_url)] = Field(
        default="",
        validate_default=True,
        description="Address of the provider's key set; https, or http on a loopback address.",
    )
    oidc_client_id: str = Field(
        default="",
        description="Client id of the console at the provider, by which people sign in there. Empty: with a key alone.",
    )
    oidc_authorization_url: Annotated[str, AfterValidator(_provider_url)] = Field(
        default="", description="Address of the provider's authorization endpoint, to which browsers are led."
    )
    oidc_token_url: Annotated[str, AfterValidator(_provider_url)] = Field(
        default="",
        description="Address of the provider's token endpoint, which the service itself asks.",
    )
    public_url: Annotated[str, AfterValidator(_public_url)] = Field(
        default="",
        validate_default=True,
        description="Origin under which browsers reach the service, such as https://ai.example.com: where the provider "
        "leads back to.",
    )


@dataclass(frozen=True)
class Settings:
    """All settings of one process."""

    secret: SecretSettings
    config: ConfigSettings
    root: Path


@dataclass(frozen=True)
class Reading:
    """One setting as `config check` shows it: its file under the root, or `default`, and what is wrong with it."""

    key: str
    source: str
    shown: str
    meaning: str
    fault: str | None


_SECTIONS: tuple[tuple[Mount, type[BaseModel]], ...] = (("secrets", SecretSettings), ("configs", ConfigSettings))


def _values(kind: Mount, model: type[BaseModel], root: Path) -> dict[str, str]:
    return {key: value for key in _keys(model) if (value := _read(kind, key, root)) is not None}


def _faults(kind: Mount, error: ValidationError) -> dict[str, str]:
    """What is wrong with each key, and where to mend it."""
    faults = {}
    for fault in error.errors(include_url=False, include_input=False):
        # Of a default Pydantic gives the name of the field, not the key.
        key = str(fault["loc"][0]).upper()
        message = "is missing; add the key" if fault["type"] == "missing" else fault["msg"]
        faults[key] = f"{key}: {message}. It is read from /{kind}/<namespace>/{_NAMES[kind]}/{key}."
    return faults


def unknown_settings(root: Path | None = None) -> Iterator[str]:
    """Say of each mounted file that is no setting where it is, and what was probably meant.

    Kubernetes keeps its own files there, such as `..data`: their names begin with a dot.
    """
    root = root or config_root()
    keys = {kind: _keys(model) for kind, model in _SECTIONS}
    others_of: dict[Mount, Mount] = {"secrets": "configs", "configs": "secrets"}
    for kind, others in others_of.items():
        for path in sorted(root.glob(f"{kind}/*/{_NAMES[kind]}/*")):
            name = path.name
            if name.startswith(".") or name in keys[kind]:
                continue
            told = f"{name!r} in /{path.parent.relative_to(root)} is not a setting and has no effect."
            if name.upper() in keys[others]:
                yield f"{told} {name.upper()} belongs in {_NAMES[others]}."
            elif close := get_close_matches(name.upper(), keys[kind], 1):
                yield f"{told} Did you mean {close[0]}?"
            else:
                yield f"{told} Remove it."


def _keys(model: type[BaseModel]) -> list[str]:
    return [field.alias or member for member, field in model.model_fields.items()]


def _load(kind: Mount, model: type[Section], root: Path) -> Section:
    try:
        return model.model_validate(_values(kind, model, root))
    except ValidationError as error:
        raise ConfigError("\n".join(_faults(kind, error).values())) from None


def load_settings(root: Path | None = None) -> Settings:
    """All settings, or a `ConfigError` with one line for each that is missing or wrong."""
    root = root or config_root()
    return Settings(
        secret=_load("secrets", SecretSettings, root),
        config=_load("configs", ConfigSettings, root),
        root=root,
    )


def load_database_settings(root: Path) -> DatabaseSettings:
    """How to reach PostgreSQL as the files say now. Raises `ConfigError`."""
    return _load("secrets", DatabaseSettings, root)


def readings(root: Path | None = None) -> Iterator[Reading]:
    """Each setting with its source, its value (secrets masked) and its fault."""
    root = root or config_root()
    for kind, model in _SECTIONS:
        values = _values(kind, model, root)
        faults: dict[str, str] = {}
        try:
            model.model_validate(values)
        except ValidationError as error:
            faults = _faults(kind, error)
        for member, field in model.model_fields.items():
            yield _reading(kind, field.alias or member, field, values, faults, root)


def _reading(
    kind: Mount, key: str, field: FieldInfo, values: dict[str, str], faults: dict[str, str], root: Path
) -> Reading:
    value, path = values.get(key), _mounted(kind, key, root)
    shown = str(field.get_default()) if value is None and not field.is_required() else value or ""
    return Reading(
        key=key,
        source="default" if path is None else str(path.relative_to(root)),
        shown=_MASK if value and field.annotation is SecretStr else shown,
        meaning=field.description or "",
        fault=faults.get(key),
    )
