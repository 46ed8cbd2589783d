"""Deployment profiles, `.fission/*.json`: one a stage, all of one schema."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ai_admin.config import ConfigError

LOCAL = Path(".fission/local-deployment.json")


class Profile(BaseModel):
    """One stage."""

    model_config = ConfigDict(extra="forbid")

    stage: Literal["local"] = Field(description="The stage's name.")
    secret: dict[str, str] = Field(
        default={},
        description="Throwaway values for a local run. An empty PG_HOST starts the embedded PostgreSQL; "
        "an absent CURSOR_KEY is made at the first start.",
    )
    config: dict[str, str] = Field(default={}, description="Values of the ConfigMap.")


def read_profile(path: Path) -> Profile:
    """The profile in a file. Raises `ConfigError`."""
    try:
        return Profile.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise ConfigError(f"{path}: {faults}") from None
