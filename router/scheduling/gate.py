"""How long a running model keeps its gate open although others wait for its room: hold, deadline, minimum service."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from router.scheduling import costs, gaps
from router.scheduling.decision import Snapshot
from router.scheduling.turns import Claim, latest_start, limit
from router.store.state import ModelState, Phase, Waiting

#: A moment that is always past: nobody keeps the gate open.
_GONE = 0.0


@dataclass(frozen=True, slots=True)
class Stay:
    """until: the gate stays open up to then, if nothing changes. deadline: no hold and no new request takes it past
    this. Both are seconds on the state's clock; what is past already means that nothing keeps it open.
    active: callers who are being served or are likely to be back."""

    until: float
    deadline: float
    active: int


def stay(snapshot: Snapshot, name: str, rivals: Sequence[Claim], granted: Sequence[Waiting]) -> Stay:
    """How long `name`, which runs, stays for its callers while `rivals` wait for its room.

    granted: requests that it serves as part of this very decision."""
    state, policy = snapshot.state, snapshot.policy
    model = state.models[name]
    gpus = snapshot.specs[name].gpus
    competing = [claim for claim in rivals if not set(claim.gpus).isdisjoint(gpus)]
    if model.phase not in (Phase.READY, Phase.STARTING) or not competing:
        return Stay(_GONE, _GONE, 0)
    serving = model.in_flight + len(granted)
    paused, held = _held(snapshot, model, competing, {request.caller for request in granted})
    if not serving and not paused:
        return Stay(_GONE, _GONE, 0)
    drain = costs.service(model) if serving else 0.0
    within = limit(snapshot, competing, gpus)
    latest = latest_start(policy, competing, within) - drain - costs.unload(model)
    deadline = max(latest, model.ready_at + policy.minimum_service)
    return Stay(deadline if serving else min(deadline, held), deadline, serving + paused)


def _held(snapshot: Snapshot, model: ModelState, competing: Sequence[Claim], back: set[str]) -> tuple[int, float]:
    """How many callers are in a pause from which they are likely back, and until when the last of them is waited for.

    A swap now costs a caller who comes back the way there and back; each second of waiting costs everybody who waits
    for other models a second. A caller who waits for one of the others itself has moved on, as far as anybody knows,
    and is waited for only where it was seen coming back: an alternating client never is, because a pause that held a
    swap counts as one without end."""
    there = [claim.load + claim.unload for claim in competing if claim.measured]
    if model.load_seconds is None or not there:
        return 0, 0.0  # nobody waits for the sake of a swap whose cost is not known yet
    swap = costs.load(model) + costs.unload(model) + min(there)
    price = float(sum(claim.count for claim in competing))
    pool = gaps.blend(model.gaps, gaps.PRIOR, gaps.PRIOR_WEIGHT)
    longest = snapshot.policy.hold_share * swap
    now, paused, held = snapshot.state.now, 0, 0.0
    for name, caller in model.callers.items():
        if caller.in_flight or caller.last_end is None or name in back or now >= caller.last_end + longest:
            continue
        if any(name in claim.callers for claim in competing) and not gaps.came_back(caller.gaps, longest):
            continue
        belief = gaps.blend(caller.gaps, pool, gaps.POOL_WEIGHT)
        until = caller.last_end + gaps.hold_until(belief, now - caller.last_end, longest, swap, price)
        if until > now:
            paused += 1
            held = max(held, until)
    return paused, held
