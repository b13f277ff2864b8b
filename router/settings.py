"""The keys of the lifecycle configuration, as people write them: what docs/configuration.md is generated from."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from router.quantities import Duration, Size
from router.schedule import Schedule
from router.scheduling.policy import Policy


class Role(StrEnum):
    """How a model shares its GPU."""

    NORMAL = "normal"
    UTILITY = "utility"
    EXCLUSIVE = "exclusive"


class LoadingMessages(StrEnum):
    """Where a streaming caller reads that its model is being woken."""

    OFF = "off"
    REASONING = "reasoning"
    CONTENT = "content"


def _or_off(value: object) -> object:
    """YAML reads a bare `off` as false."""
    return "off" if value is False else value


def _gpu_names(value: object) -> object:
    """GPU names are text; YAML reads a bare 0 as a number."""
    if isinstance(value, dict):
        return {str(name) if isinstance(name, int) else name: gpu for name, gpu in value.items()}
    names = value if isinstance(value, list) else [value]
    return [str(name) if isinstance(name, int) else name for name in names]


def _text(value: object) -> object:
    """A bare number is meant as text."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


_POLICY = Policy()


class Scheduling(_Strict):
    """How the GPU's time is divided among models that do not fit together; docs/scheduling.md explains the numbers."""

    patience: Duration = Field(
        _POLICY.patience,
        ge=0,
        description="The longer, the rarer are swaps and the longer the waits: a model is served within "
        "the root of patience times the sum of all loads. 0: strictly by the oldest request.",
    )
    minimum_service: Duration = Field(
        _POLICY.minimum_service,
        ge=0,
        description="A model that was loaded and has work serves at least this long.",
    )
    planned_residency: Duration = Field(
        _POLICY.planned_residency, ge=0, description="How long a model is assumed to stay when others plan behind it."
    )
    hold_share: float = Field(
        _POLICY.hold_share,
        ge=0,
        le=1,
        description="A swap waits for a caller who is likely back soon for at most this share of what the swap costs.",
    )
    aging: Duration = Field(
        _POLICY.aging, ge=0, description="A step of priority counts as much as this long a wait, between models."
    )

    @property
    def policy(self) -> Policy:
        """What the scheduler takes."""
        return Policy(**self.model_dump())


class ModelLifecycle(_Strict):
    """`model_info.lifecycle`: how one model's engine is run. Durations default to the global ones."""

    container: str | None = Field(
        None, description="Docker: the container's name. It must exist; Hearth never creates one."
    )
    command: list[str] | None = Field(
        None, min_length=1, description="Process runtime: the engine's program and arguments."
    )
    environment: dict[str, str] = Field({}, description="Process runtime: variables added to the engine's environment.")
    gpu: Annotated[list[str], BeforeValidator(_gpu_names)] = Field(
        ["0"], min_length=1, description="The GPU, or the list of GPUs, that the engine runs on."
    )
    memory: Size = Field(
        description="What the engine claims of each of its GPUs, such as 70GiB. With more than they have for models it "
        "is not served: requests for it get 400."
    )
    role: Role = Field(
        Role.NORMAL,
        description="normal: shares the GPU while it fits. exclusive: alone on it. "
        "utility: small and kept running; the last to give way, and comes back by itself.",
    )
    idle_timeout: Duration | None = Field(
        None, description="Stop after this long without a request, from the end of the last one; 0 is never."
    )
    start_timeout: Duration | None = Field(
        None, gt=0, description="Give up on a start that is not healthy after this long."
    )
    stop_timeout: Duration | None = Field(
        None, description="What the engine gets to stop by itself before it is killed."
    )
    drain_timeout: Duration | None = Field(
        None, description="Longest wait for running requests before the engine is stopped for another model."
    )
    priority: int = Field(
        0, ge=-5, le=5, description="A step higher is served sooner than other models; added to the caller's own."
    )
    parallel: int | None = Field(
        None,
        gt=0,
        description="Most requests in flight at once; callers take turns for these places. Default: the engine's own "
        "queue decides.",
    )
    line_limit: int | None = Field(None, gt=0, description="Most requests that wait for this model; more get a 429.")
    health_path: str = Field(
        "/health", pattern="^/", description="Path on the engine that answers 200 when it is ready."
    )


class GpuSettings(_Strict):
    """One GPU, or the unified memory of a box such as a DGX Spark."""

    memory: Size = Field(description="All of its memory, such as 119GiB.")
    reserve: Size = Field(0, description="What is never given to models.")
    measure: Annotated[
        Literal["auto", "meminfo", "nvml", "off"],
        BeforeValidator(_or_off, json_schema_input_type=Literal["auto", "meminfo", "nvml", "off", False]),
    ] = Field(
        "auto",
        description="How free memory is read. nvml: from the NVIDIA driver. meminfo: from the system, whose memory "
        "the GPU shares (DGX Spark). auto: nvml where the driver reports memory, meminfo where it knows the GPU but "
        "reports none, off without a driver. off: not at all, so no stop waits for its memory.",
    )
    nvml_device: Annotated[str | None, BeforeValidator(_text, json_schema_input_type=str | int | None)] = Field(
        None, description="The GPU's index or UUID for nvml, as `nvidia-smi -L` shows it. Default: the GPU's name here."
    )

    @property
    def room(self) -> int:
        """Bytes that models may claim."""
        return self.memory - self.reserve

    @model_validator(mode="after")
    def _reserve_is_smaller(self) -> GpuSettings:
        if self.reserve >= self.memory:
            raise ValueError("reserve is not smaller than memory, so nothing is left for models")
        return self


class PageCacheSettings(_Strict):
    """The kernel's cache of files, dropped by a helper that the admin runs; see docs/memory.md."""

    drop_before_start: bool = Field(
        False, description="Before a start for which too little memory is unused, have the page cache dropped."
    )
    socket: str = Field("/run/page-cache/socket", min_length=1, description="Where the helper listens.")


class Cooldown(_Strict):
    """How long a model that failed is left alone: `first`, doubled with each failure in a row, up to `longest`."""

    first: Duration = Field(5.0, description="After the first failure in a row.")
    longest: Duration = Field(600.0, description="However many there were.")


class LifecycleSettings(_Strict):
    """`general_settings.lifecycle`: what holds for all models."""

    runtime: Literal["docker", "process"] = Field("docker", description="What runs the engines.")
    gpus: Annotated[dict[str, GpuSettings], BeforeValidator(_gpu_names)] = Field(
        min_length=1, description="The GPUs by name."
    )
    idle_timeout: Duration = Field(1200.0, description="See the model's key of the same name.")
    start_timeout: Duration = Field(900.0, gt=0, description="See the model's key of the same name.")
    stop_timeout: Duration = Field(30.0, gt=0, description="See the model's key of the same name.")
    drain_timeout: Duration = Field(900.0, gt=0, description="See the model's key of the same name.")
    max_wait: Duration = Field(3600.0, gt=0, description="The longest that a request waits for its model.")
    keepalive_interval: Duration = Field(
        5.0,
        gt=0,
        le=10,
        description="Streaming callers get an SSE comment this often until their answer begins.",
    )
    loading_messages: Annotated[LoadingMessages, BeforeValidator(_or_off)] = Field(
        LoadingMessages.OFF,
        description="Show streaming callers in the stream itself that their model is being woken: as reasoning, or as "
        "content (which stays in the conversation). Requests choose for themselves with X-Hearth-Loading.",
    )
    line_limit: int = Field(1000, gt=0, description="See the model's key of the same name.")
    caller_line_limit: int = Field(
        500, gt=0, description="Most requests of one key that wait, for all models together; more get a 429."
    )
    scheduling: Scheduling = Field(Scheduling(), description="How the GPU's time is divided.")
    memory_timeout: Duration = Field(
        30.0,
        description="After a stop, wait for its memory to be free again for at most this long; 0: do not wait.",
    )
    page_cache: PageCacheSettings = Field(PageCacheSettings(), description="The kernel's cache of files.")
    max_body: Size = Field(64 * 2**20, gt=0, description="Longest request body; more is answered 413.")
    cooldown: Cooldown = Field(Cooldown(), description="How long a model is left alone after it failed.")
    preload: list[str] = Field(
        [],
        description="Models to keep warm: loaded into free memory while nobody waits, never stopped for idleness. They "
        "give way to those who ask for other models, and come back by themselves. Together they must fit.",
    )
    default_model: str | None = Field(
        None, description="The model to return to when nobody uses the box; idle models leave for it."
    )
    default_after: Duration = Field(1800.0, description="How long nothing must have been asked for until then.")
    schedules: list[Schedule] = Field(
        [], description="When models are prewarmed. Of two that do not fit together, the one named first is warm."
    )
