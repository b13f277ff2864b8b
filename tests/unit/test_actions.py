"""What an admin's wishes are for a model in each of its phases."""

from __future__ import annotations

import pytest

from router.api.actions import Action, asked
from router.store.state import Phase

NOW = 1_700_000_000_000


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("action", Action)
def test_every_action_means_something_in_every_phase_but_a_touch_of_what_sleeps(action: Action, phase: Phase) -> None:
    wish = asked(action, phase, NOW)
    touchable = action is not Action.TOUCH or phase in (Phase.READY, Phase.DRAINING)
    assert (wish is not None) is touchable


def test_a_wake_ends_the_wish_to_sleep_and_the_cooling_down() -> None:
    wish = asked(Action.WAKE, Phase.FAILED, NOW)
    assert wish is not None
    assert wish.fields == {"wanted": NOW, "sleep": "", "retry_at": 0}


def test_a_model_that_is_awake_is_not_wanted_but_used() -> None:
    wish = asked(Action.WAKE, Phase.READY, NOW)
    assert wish is not None
    assert wish.fields == {"last_used": NOW}


@pytest.mark.parametrize(
    ("phase", "force", "sleep"),
    [(Phase.READY, False, "drain"), (Phase.READY, True, "force"), (Phase.ASLEEP, True, "drain")],
)
def test_only_what_runs_is_forced_to_sleep(phase: Phase, force: bool, sleep: str) -> None:
    wish = asked(Action.SLEEP, phase, NOW, force=force)
    assert wish is not None
    assert wish.fields == {"sleep": sleep, "wanted": ""}
