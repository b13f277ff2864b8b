"""Who loads and who leaves at the same time: plain bookkeeping that says which readings mean something.

A reading is of a whole GPU. What a load took is known only when nothing else started, stopped or died on its GPU
meanwhile. Stops that overlap give back together: each waits for the sum of those whose engines are gone, counted from
before the first of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from router.memory.release import Expected


@dataclass(eq=False, slots=True)
class Load:
    """One model that loads. disturbed: something else happened on one of its GPUs."""

    gpus: tuple[str, ...]
    disturbed: bool = False


@dataclass(frozen=True, slots=True)
class Share:
    """What one model takes (bytes). known: that it held all of it when it stopped. measured: not just declared."""

    use: int
    measured: bool
    known: bool = True


@dataclass(eq=False, slots=True)
class Release:
    """The stops that overlap on one GPU. before: bytes free before the first. gone: shares of the engines that have
    ended so far. disturbed: something else took or gave memory meanwhile."""

    before: int
    stops: int = 0
    gone: list[Share] = field(default_factory=list)
    disturbed: bool = False

    @property
    def expected(self) -> Expected | None:
        """What should have come by now; None when that is not known."""
        if self.disturbed or not all(share.known for share in self.gone):
            return None
        return Expected(
            before=self.before,
            use=sum(share.use for share in self.gone),
            measured=all(share.measured for share in self.gone),
        )


class Ledger:
    """All loads and stops that are under way."""

    def __init__(self) -> None:
        self._loads: set[Load] = set()
        self._releases: dict[str, Release] = {}

    def begin_load(self, gpus: tuple[str, ...]) -> Load:
        """A load on these GPUs; `end_load` must follow. It disturbs what is under way there, and that disturbs it."""
        load = Load(gpus, disturbed=any(True for _ in self._beside(gpus)))
        self.disturb(gpus)
        self._loads.add(load)
        return load

    def end_load(self, load: Load) -> None:
        """The load is over, however it went."""
        self._loads.discard(load)

    def begin_stop(self, before: Mapping[str, int]) -> dict[str, Release]:
        """before: free bytes of each measured GPU of the model. Returns the release on each of them."""
        for load in self._loads:
            load.disturbed |= not before.keys().isdisjoint(load.gpus)
        found = {}
        for gpu, free in before.items():
            release = self._releases.get(gpu)
            if release is None:
                release = self._releases[gpu] = Release(free, disturbed=any(gpu in load.gpus for load in self._loads))
            release.stops += 1
            found[gpu] = release
        return found

    def end_stop(self, releases: Mapping[str, Release]) -> None:
        """The stop is over; the last of those that overlap on a GPU ends their common release."""
        for gpu, release in releases.items():
            release.stops -= 1
            if not release.stops:
                del self._releases[gpu]

    def disturb(self, gpus: tuple[str, ...]) -> None:
        """Something happened on these GPUs that is neither of the loads' nor of the stops' own."""
        for each in self._beside(gpus):
            each.disturbed = True

    def _beside(self, gpus: tuple[str, ...]) -> Iterator[Load | Release]:
        yield from (load for load in self._loads if not set(gpus).isdisjoint(load.gpus))
        yield from (release for gpu, release in self._releases.items() if gpu in gpus)
