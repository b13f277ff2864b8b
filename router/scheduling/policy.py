"""What an owner may tune about scheduling. The defaults are measured: docs/scheduling.md has the numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Policy:
    """Parameters of the scheduler; all times are seconds.

    patience: a waiting request is to be served within the square root of patience times the swap overhead, the sum of
    the loads and unloads of all models that compete for the GPU. The more a swap costs, the rarer it should be, and the
    best interval between two things of which one has a fixed cost grows with that cost's root. 0 is no patience: the
    models are served strictly by their oldest request.
    minimum_service: a model that has been loaded and has work keeps its gate open for at least this long.
    planned_residency: what each model that is loaded first is assumed to take when it is computed how long the next can
    wait.
    hold_share: a caller's pause is waited for at most this share of the swap there and back.
    aging: a step of priority counts as much as this long a wait, when models are compared.
    """

    patience: float = 2500.0
    minimum_service: float = 60.0
    planned_residency: float = 120.0
    hold_share: float = 0.35
    aging: float = 60.0


#: Strictly by age: the oldest request's model is next, and nobody is waited for.
STRICT = Policy(patience=0.0, minimum_service=0.0, hold_share=0.0)
