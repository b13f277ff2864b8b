"""Who competes with whom for GPUs, directly or through others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar


class _OnGpus(Protocol):
    @property
    def gpus(self) -> tuple[str, ...]: ...


T = TypeVar("T", bound=_OnGpus)


def competing(things: Iterable[T]) -> list[list[T]]:
    """The things in groups: whatever shares a GPU is in one group, also when it shares it only through others."""
    groups: list[tuple[set[str], list[T]]] = []
    for thing in things:
        gpus, members = set(thing.gpus), [thing]
        apart: list[tuple[set[str], list[T]]] = []
        for group in groups:
            if group[0].isdisjoint(gpus):
                apart.append(group)
            else:
                gpus |= group[0]
                members += group[1]
        groups = [*apart, (gpus, members)]
    return [members for _, members in groups]
