"""Deployment profiles, `.fission/*.json`: one a stage, all of one schema, `.fission/profile.schema.json`."""

import json
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from pydantic.alias_generators import to_camel
from typing_extensions import Self

from ai_admin.config import CONFIG_NAME, SECRET_NAME, ConfigError, ConfigSettings
from ai_admin.json_values import RepeatedMember, require_distinct

Stage = Literal["local", "dev", "test", "staging", "production"]
STAGES: tuple[Stage, ...] = get_args(Stage)
FOLDER = Path(".fission")
SCHEMA = FOLDER / "profile.schema.json"
LOCAL = FOLDER / "local-deployment.json"

# Where nobody but developers is served: there alone any origin may call, and an image may change by itself.
_OPEN_STAGES = ("local", "dev")

Namespace = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
Image = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][\w.:/@-]*$")]


def _cpus(text: str) -> float:
    return int(text[:-1]) / 1000 if text.endswith("m") else float(text)


def _mebibytes(text: str) -> int:
    return int(text[:-2]) * (1024 if text.endswith("Gi") else 1)


def _as_kept_cpu(text: str) -> str:
    """Return a number of processors as Kubernetes keeps it: `1` for `1000m`, `500m` for `0.5`."""
    thousandths = Fraction(text[:-1]) if text.endswith("m") else Fraction(text) * 1000
    if thousandths.denominator != 1:
        raise ValueError("finer than a thousandth of a processor")
    return f"{thousandths}m" if thousandths % 1000 else str(thousandths // 1000)


def _as_kept_memory(text: str) -> str:
    """Return an amount of memory as Kubernetes keeps it: `1Gi` for `1024Mi`."""
    gibibytes, rest = divmod(_mebibytes(text), 1024)
    return text if rest else f"{gibibytes}Gi"


# In another form each apply would change what has it.
Cpu = Annotated[str, StringConstraints(pattern=r"^([0-9]+m|[0-9]+(\.[0-9]+)?)$"), AfterValidator(_as_kept_cpu)]
Memory = Annotated[str, StringConstraints(pattern=r"^[0-9]+(Mi|Gi)$"), AfterValidator(_as_kept_memory)]


class _Section(BaseModel):
    """A part of a profile: members in camelCase, none that the schema does not name."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", hide_input_in_errors=True)


class Amounts(_Section):
    """How much of a node, as Kubernetes writes it."""

    cpu: Cpu = Field(description="Processors, such as 100m (a tenth of one) or 1.")
    memory: Memory = Field(description="Memory, such as 256Mi.")


class Resources(_Section):
    """What a pod of a function is given."""

    requests: Amounts = Field(default=Amounts(cpu="100m", memory="128Mi"), description="Reserved for the pod.")
    limits: Amounts = Field(default=Amounts(cpu="1", memory="256Mi"), description="The most that it may use.")

    @model_validator(mode="after")
    def _requests_fit(self) -> Self:
        # Fission takes what does not fit, and then no pod starts.
        if _cpus(self.requests.cpu) > _cpus(self.limits.cpu) or _mebibytes(self.requests.memory) > _mebibytes(
            self.limits.memory
        ):
            raise ValueError("requests are above limits")
        return self


class FunctionSettings(_Section):
    """How Fission runs a function (executor newdeploy)."""

    min_scale: int = Field(default=1, ge=0, le=100, description="Fewest pods.")
    max_scale: int = Field(default=1, ge=1, le=100, description="Most pods.")
    requests_per_pod: int = Field(default=500, ge=1, le=10_000, description="Requests that one pod may get at a time.")
    function_timeout: int = Field(default=300, ge=1, le=3600, description="Longest time of a request, in seconds.")
    specialization_timeout: int = Field(
        default=120, ge=120, le=3600, description="Longest time until a pod is ready, in seconds."
    )
    resources: Resources = Field(default=Resources(), description="What each pod is given.")


class Environment(_Section):
    """Fission's Python environment: the images that run and build the functions."""

    runtime_image: Image = Field(
        default="ghcr.io/fission/python-env-3.10",
        description="Image that runs the functions; with a tag or digest in test, staging and production.",
    )
    builder_image: Image = Field(
        default="ghcr.io/fission/python-builder-3.10",
        description="Image that builds the package; with a tag or digest in test, staging and production.",
    )


class ConfigValues(ConfigSettings):
    """The settings of the ConfigMap, and no others."""

    model_config = ConfigDict(extra="forbid")


def _secret_is_local(schema: dict[str, Any]) -> None:
    schema["if"] = {"properties": {"stage": {"const": "local"}}}
    schema["else"] = {"properties": {"secret": False}}


class Profile(_Section):
    """One stage. Every member but the stage has a default: the values of `specs/`."""

    model_config = ConfigDict(json_schema_extra=_secret_is_local)

    schema_file: str = Field(default=SCHEMA.name, alias="$schema", description="The schema, for editors.")
    stage: Stage = Field(description="The stage's name.")
    namespace: Namespace = Field(default="default", description="Kubernetes namespace of everything of the stage.")
    environment: Environment = Field(default=Environment(), description="Images.")
    every_function: FunctionSettings = Field(default=FunctionSettings(), description="Settings of every function.")
    functions: dict[str, FunctionSettings] = Field(
        default={}, description="What single functions, by their names, have otherwise than everyFunction says."
    )
    secret_name: str = Field(
        default=SECRET_NAME, pattern=f"^{SECRET_NAME}$", description="Name of the Secret that the functions read."
    )
    config_map_name: str = Field(
        default=CONFIG_NAME, pattern=f"^{CONFIG_NAME}$", description="Name of the ConfigMap that the functions read."
    )
    config: ConfigValues = Field(
        default=ConfigValues(), description="Values of the ConfigMap; an absent one has its default."
    )
    secret: dict[str, str] = Field(
        default={},
        description="Throwaway values for a local run, in the local profile alone. An empty PG_HOST starts the "
        "embedded PostgreSQL; an absent CURSOR_KEY, VAULT_KEYS or AUDIT_SEAL_KEY is made at the first start.",
    )

    @model_validator(mode="after")
    def _fits_the_stage(self) -> Self:
        if self.stage != "local" and "secret" in self.model_fields_set:
            raise ValueError("secret: only the local profile may hold values of the Secret")
        if self.stage not in _OPEN_STAGES:
            if "*" in self.config.allowed_origins.split():
                raise ValueError(f"config.ALLOWED_ORIGINS: * is for {' and '.join(_OPEN_STAGES)}; name the origins")
            if not all(map(_is_pinned, (self.environment.runtime_image, self.environment.builder_image))):
                raise ValueError("environment: an image without tag or digest changes by itself; name one")
        for name, settings in [("everyFunction", self.every_function), *self._settings_of_named()]:
            if settings.min_scale > settings.max_scale:
                raise ValueError(f"{name}: minScale is above maxScale")
        return self

    def _settings_of_named(self) -> Iterator[tuple[str, FunctionSettings]]:
        return ((f"functions.{name}", self.settings_of(name)) for name in self.functions)

    def settings_of(self, function: str) -> FunctionSettings:
        """The settings of a function: those of every function, but for what the profile says of this one."""
        own = self.functions.get(function, FunctionSettings())
        return self.every_function.model_copy(update={name: getattr(own, name) for name in own.model_fields_set})

    def config_map(self) -> dict[str, str]:
        """The ConfigMap's content: the values that the profile sets, as text."""
        values = self.config.model_dump(mode="json", by_alias=True, exclude_unset=True)
        return {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}


def _is_pinned(image: str) -> bool:
    """Whether an image has a digest, or a tag other than `latest`; the colon of a registry's port precedes a slash."""
    return bool(re.search(r"[:@](?!latest$)[^/]+$", image))


def profile_path(stage: Stage) -> Path:
    """The file of a stage: that of production is plain `deployment.json`."""
    return FOLDER / ("deployment.json" if stage == "production" else f"{stage}-deployment.json")


def read_profile(path: Path) -> Profile:
    """The profile in a file. Raises `ConfigError`."""
    try:
        text = path.read_bytes()
        profile = Profile.model_validate_json(text)
        require_distinct(text)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except ValidationError as error:
        faults = "; ".join(": ".join(filter(None, (_place(fault["loc"]), fault["msg"]))) for fault in error.errors())
        raise ConfigError(f"{path}: {faults}") from None
    except RepeatedMember as error:
        raise ConfigError(f"{path}: {_place(error.place)} occurs twice; leave one") from None
    return profile


def _place(location: tuple[int | str, ...]) -> str:
    return ".".join(map(str, location))


def schema_text() -> str:
    """The JSON Schema of profiles, as the file for editors holds it."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Profile.model_json_schema()}
    return json.dumps(schema, indent=2) + "\n"
