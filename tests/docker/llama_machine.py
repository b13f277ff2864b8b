"""A stack whose engines are llama-server in containers: what all tests of real containers run on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llama_fleet import LlamaFleet
from stack import Model, Stack, free_port

#: What the engine of `short` takes of the 2048 tokens that its configuration promises.
SHORT = 1024
_MODELS = [
    Model("left", memory="60GiB"),
    Model("right", memory="60GiB"),
    Model("small", memory="20GiB"),
    Model("short", memory="5GiB", info={"max_input_tokens": 2048}),
    Model("brief", memory="5GiB", lifecycle={"idle_timeout": "300ms"}),
    Model("held", memory="5GiB"),
    Model("broken", memory="5GiB"),
    Model("missing", memory="5GiB"),
]


class DockerStack(Stack):
    """A stack whose engines are containers, which it neither makes nor removes."""

    def __init__(self, directory: Path, models: list[Model], containers: dict[str, str], **options: Any) -> None:
        self._containers = containers
        super().__init__(directory, models, **options)

    def _entry(self, model: Model) -> dict[str, Any]:
        entry = super()._entry(model)
        lifecycle = entry["model_info"]["lifecycle"]
        del lifecycle["command"]
        lifecycle["container"] = self._containers[model.name]
        return entry


@dataclass
class Machine:
    """What runs for all tests. gate: `open` in it lets `held` load."""

    fleet: LlamaFleet
    stack: Stack
    gate: Path


@contextmanager
def running(directory: Path, gate: Path) -> Iterator[Machine]:
    """The machine, from its start to its end."""
    with closing(LlamaFleet()) as fleet:
        stack = DockerStack(
            directory,
            _MODELS,
            {model.name: fleet.container_name(model.name) for model in _MODELS},
            gpus={"0": {"memory": "100GiB"}},
            settings={
                "runtime": "docker",
                "keepalive_interval": "200ms",
                "scheduling": {"patience": 0, "minimum_service": 0, "hold_share": 0},
            },
        )
        for name in ("left", "right", "small", "brief"):
            fleet.create(name, stack.ports[name])
        fleet.create("short", stack.ports["short"], "--ctx-size", str(SHORT), "--parallel", "1")
        fleet.create("held", stack.ports["held"], gate=gate)
        fleet.create("broken", stack.ports["broken"], "--no-such-argument")
        fleet.create("bystander", free_port()).start()
        with stack:
            yield Machine(fleet, stack, gate)
