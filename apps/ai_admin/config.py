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
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
)

SECRET_NAME = "fission-ai-work-env"  # noqa: S105  the name of the Secret, not its content
CONFIG_NAME = "fission-ai-work-config"
Section = TypeVar("Section", bound=BaseModel)
ROOT_VARIABLE = "AI_ADMIN_ROOT"


class ConfigError(Exception):
    """A setting is missing or wrong. The message says which, where it is looked for, and what to do."""


def config_root() -> Path:
    """The folder under which `secrets/` and `configs/` are mounted."""
    return Path(os.environ.get(ROOT_VARIABLE, "/"))


def _mounted(kind: Literal["secrets", "configs"], name: str, key: str, root: Path) -> Path | None:
    """The file of a key. A pod mounts its own namespace alone, so the first match is the only one."""
    return next(iter(sorted(root.glob(f"{kind}/*/{name}/{key}"))), None)


def read_secret(key: str, root: Path | None = None) -> str | None:
    """The value of `key` in the mounted Secret, without a final line break; None where there is none."""
    path = _mounted("secrets", SECRET_NAME, key, root or config_root())
    return None if path is None else path.read_text(encoding="utf-8").rstrip("\r\n")


def read_config(key: str, root: Path | None = None) -> str | None:
    """The value of `key` in the mounted ConfigMap, without a final line break; None where there is none."""
    path = _mounted("configs", CONFIG_NAME, key, root or config_root())
    return None if path is None else path.read_text(encoding="utf-8").rstrip("\r\n")


def _key_of_32_bytes(value: SecretStr) -> SecretStr:
    try:
        raw = base64.b64decode(value.get_secret_value(), validate=True)
    except binascii.Error:
        raise ValueError("must be base64") from None
    if len(raw) != 32:
        raise ValueError(f"must be 32 bytes in base64, not {len(raw)}")
    return value


def _origins(value: str) -> str:
    for origin in value.split():
        if origin != "*" and ("://" not in origin or origin.rstrip("/") != origin):
            raise ValueError(f"{origin!r} is no origin: write it as https://host or https://host:port")
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

    cursor_key: Annotated[SecretStr, AfterValidator(_key_of_32_bytes)] = Field(
        description="32 random bytes in base64 that seal the cursors of lists. Every process of one "
        "deployment has the same; a change makes open cursors invalid and nothing else."
    )

    def cursor_key_bytes(self) -> bytes:
        """The sealing key as 32 bytes."""
        return base64.b64decode(self.cursor_key.get_secret_value())


class ConfigSettings(BaseModel):
    """What the ConfigMap holds. Everything has a default."""

    model_config = ConfigDict(alias_generator=str.upper, hide_input_in_errors=True)

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="Lowest level that is logged."
    )
    allowed_origins: Annotated[str, AfterValidator(_origins)] = Field(
        default="*", description="Origins that browsers may call from, separated by spaces; * is any."
    )
    pool_size: int = Field(default=8, ge=1, le=100, description="Most connections of one process.")
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


@dataclass(frozen=True)
class Settings:
    """All settings of one process."""

    secret: SecretSettings
    config: ConfigSettings
    root: Path


@dataclass(frozen=True)
class Reading:
    """One setting as `config check` shows it: where its value comes from, and what is wrong with it."""

    key: str
    source: str
    shown: str
    meaning: str
    fault: str | None


_SECTIONS: tuple[tuple[Literal["secrets", "configs"], str, type[BaseModel]], ...] = (
    ("secrets", SECRET_NAME, SecretSettings),
    ("configs", CONFIG_NAME, ConfigSettings),
)


def _values(
    kind: Literal["secrets", "configs"], name: str, model: type[BaseModel], root: Path
) -> dict[str, str]:
    read = read_secret if kind == "secrets" else read_config
    keys = [field.alias or member for member, field in model.model_fields.items()]
    return {key: value for key in keys if (value := read(key, root)) is not None}


def _advice(kind: str, name: str, key: str, message: str) -> str:
    return f"{key}: {message}. It is read from /{kind}/<namespace>/{name}/{key}."


def _faults(kind: str, name: str, error: ValidationError) -> dict[str, str]:
    return {
        str(fault["loc"][0]): _advice(
            kind,
            name,
            str(fault["loc"][0]),
            "is missing; add the key" if fault["type"] == "missing" else fault["msg"],
        )
        for fault in error.errors(include_url=False, include_input=False)
    }


def _load(kind: Literal["secrets", "configs"], name: str, model: type[Section], root: Path) -> Section:
    try:
        return model.model_validate(_values(kind, name, model, root))
    except ValidationError as error:
        raise ConfigError("\n".join(_faults(kind, name, error).values())) from None


def load_settings(root: Path | None = None) -> Settings:
    """All settings, or a `ConfigError` with one line for each that is missing or wrong."""
    root = root or config_root()
    return Settings(
        secret=_load("secrets", SECRET_NAME, SecretSettings, root),
        config=_load("configs", CONFIG_NAME, ConfigSettings, root),
        root=root,
    )


def load_database_settings(root: Path) -> DatabaseSettings:
    """How to reach PostgreSQL as the files say now. Raises `ConfigError`."""
    return _load("secrets", SECRET_NAME, DatabaseSettings, root)


def readings(root: Path | None = None) -> Iterator[Reading]:
    """Each setting with its source, its value (secrets masked) and its fault."""
    root = root or config_root()
    for kind, name, model in _SECTIONS:
        values = _values(kind, name, model, root)
        faults: dict[str, str] = {}
        try:
            model.model_validate(values)
        except ValidationError as error:
            faults = _faults(kind, name, error)
        for member, field in model.model_fields.items():
            key = field.alias or member
            masked = "Secret" in str(field.annotation)
            default = "" if field.is_required() else str(field.get_default())
            value = values.get(key)
            yield Reading(
                key=key,
                source="default" if value is None else str(_mounted(kind, name, key, root)),
                shown="********" if masked and value else (default if value is None else value),
                meaning=field.description or "",
                fault=faults.get(key),
            )
