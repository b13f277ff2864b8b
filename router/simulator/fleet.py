"""The simulated box: models with what they cost, as the scheduler's own specs on GPUs with room."""

from __future__ import annotations

import dataclasses
import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from router.config import Config, ModelSpec
from router.scheduling.costs import ASSUMED_LOAD, ASSUMED_UNLOAD
from router.scheduling.policy import Policy
from router.settings import Role
from router.simulator.lengths import Lengths

GPU = "0"
#: Bytes of a simulated GPU whose models give their memory as a part of it.
ROOM = 1_000_000
#: Seconds after which running requests are cut off for another model, where no configuration says so.
DRAIN_TIMEOUT = 120.0

#: Requests that an engine works on side by side, where nothing says how many.
CONCURRENCY = 8

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class SimulatedModel:
    """One model: seconds to load and unload, tokens per second of each request, requests side by side, its share of
    the work, and its memory as a part of the GPU's (which is 1)."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=1)]
    load_seconds: Seconds
    unload_seconds: Seconds = ASSUMED_UNLOAD
    prefill_tps: Rate = 2000.0
    decode_tps: Rate = 40.0
    concurrency: Annotated[int, Field(ge=1)] = CONCURRENCY
    share: Seconds = 1.0
    memory: Annotated[float, Field(gt=0, le=1)] = 1.0

    def service_seconds(self, context: int, generated: int) -> float:
        """How long one request takes when it does not queue."""
        return context / self.prefill_tps + generated / self.decode_tps


@dataclass(frozen=True, slots=True)
class Fleet:
    """models, specs: by name, the same names. room: bytes that each GPU has for models. policy: what the scheduler is
    tuned to."""

    models: Mapping[str, SimulatedModel]
    specs: Mapping[str, ModelSpec]
    room: Mapping[str, int]
    policy: Policy = field(default_factory=Policy)


@dataclass(frozen=True, slots=True)
class Learned:
    """What a server has measured of a model (s); None: nothing yet."""

    load_seconds: float | None = None
    unload_seconds: float | None = None
    service_seconds: float | None = None


def one_gpu(models: Sequence[SimulatedModel], *, drain_timeout: float = DRAIN_TIMEOUT) -> Fleet:
    """All models on one GPU, which they leave for each other only."""
    specs = {model.name: simulated_spec(model, drain_timeout=drain_timeout) for model in models}
    return Fleet({model.name: model for model in models}, specs, {GPU: ROOM})


def simulated_spec(
    model: SimulatedModel,
    *,
    gpus: tuple[str, ...] = (GPU,),
    role: Role = Role.NORMAL,
    drain_timeout: float = DRAIN_TIMEOUT,
    slow: float = 1.0,
) -> ModelSpec:
    """A spec for a model that nobody configured. slow: its longest load, as a multiple of the expected one."""
    return ModelSpec(
        name=model.name,
        api_base="http://model.invalid/v1",
        health_url="http://model.invalid/health",
        container=model.name,
        command=None,
        environment={},
        gpus=gpus,
        memory=round(model.memory * ROOM),
        role=role,
        idle_timeout=0.0,
        start_timeout=model.load_seconds * slow,
        stop_timeout=max(model.unload_seconds, 1e-6),
        drain_timeout=drain_timeout,
    )


def configured(config: Config, learned: Mapping[str, Learned], lengths: Lengths) -> Fleet:
    """The configuration's own fleet, with the costs that were learned, else assumed ones.

    A learned length of a request sets the model's speed, so that the mean request of `lengths` takes that long."""
    models: dict[str, SimulatedModel] = {}
    specs: dict[str, ModelSpec] = {}
    for name, spec in config.models.items():
        known = learned.get(name, Learned())
        model = SimulatedModel(
            name,
            ASSUMED_LOAD if known.load_seconds is None else known.load_seconds,
            ASSUMED_UNLOAD if known.unload_seconds is None else known.unload_seconds,
            concurrency=spec.parallel or CONCURRENCY,
        )
        if known.service_seconds and lengths:
            mean = sum(model.service_seconds(*each) for each in lengths) / len(lengths)
            faster = mean / known.service_seconds
            model = dataclasses.replace(
                model, prefill_tps=model.prefill_tps * faster, decode_tps=model.decode_tps * faster
            )
        models[name] = model
        limits = {
            "start_timeout": max(spec.start_timeout, model.load_seconds),
            "stop_timeout": max(spec.stop_timeout, model.unload_seconds),
        }
        specs[name] = spec.model_copy(update=limits)
    return Fleet(
        models, specs, {name: gpu.room for name, gpu in config.settings.gpus.items()}, config.settings.scheduling.policy
    )


def read_models(path: Path) -> list[SimulatedModel]:
    """The models of a YAML list. Raises OSError, and ValueError with one line that says what is wrong."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        where = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ValueError(f"{path}: is not YAML: {where}{error.problem}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, list) or not document:
        raise ValueError(f"{path}: is not a list of models, each with at least name and load_seconds")
    try:
        models = TypeAdapter(list[SimulatedModel]).validate_python(document)
    except ValidationError as error:
        raise ValueError(f"{path}: {_explain(error, document)}") from error
    if twice := [name for name, count in Counter(model.name for model in models).items() if count > 1]:
        raise ValueError(f"{path}: two models are named {twice[0]!r}")
    if not any(model.share for model in models):
        raise ValueError(f"{path}: every share is 0, so nobody asks for anything")
    return models


def _explain(error: ValidationError, document: Sequence[object]) -> str:
    """The first fault and how many there are."""
    # a key that is not known says more than the one that is missing because of it
    fault, *more = sorted(error.errors(), key=lambda fault: fault["type"] == "missing")
    index, *keys = fault["loc"]
    entry = document[int(index)]
    name = entry.get("name") if isinstance(entry, dict) else None
    where = f"[{index}]" + (f" ({name})" if name else "")
    key = str(keys[0]) if keys else ""
    if fault["type"] == "unexpected_keyword_argument":
        known = [field.name for field in dataclasses.fields(SimulatedModel)]
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        said = f"{key}: is not a known key; " + (f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}")
    elif fault["type"] == "missing":
        said = f"{key}: is missing"
    elif not key:
        said = "is not a mapping with name and load_seconds"
    else:
        said = f"{key}: {fault['msg']}"
    return f"{where}: {said}" + (f" (and {len(more)} more)" if more else "")
