"""Which readings mean something while several models load and stop at the same time."""

from __future__ import annotations

from router.memory.ledger import Ledger, Share
from router.memory.release import Expected

ONE, OTHER, BOTH = ("0",), ("1",), ("0", "1")


def test_load_alone_is_undisturbed() -> None:
    ledger = Ledger()
    ledger.end_load(ledger.begin_load(ONE))
    load = ledger.begin_load(ONE)
    ledger.begin_load(OTHER)
    assert not load.disturbed, "what is over, or on another GPU, does not count"


def test_loads_that_overlap_disturb_each_other_also_on_one_of_several_gpus() -> None:
    ledger = Ledger()
    first = ledger.begin_load(BOTH)
    second = ledger.begin_load(OTHER)
    assert first.disturbed
    assert second.disturbed


def test_stop_and_load_disturb_each_other_whichever_comes_first() -> None:
    for load_first in (True, False):
        ledger = Ledger()
        if load_first:
            load = ledger.begin_load(ONE)
        releases = ledger.begin_stop({"0": 10, "1": 20})
        if not load_first:
            load = ledger.begin_load(ONE)
        assert load.disturbed
        assert releases["0"].expected is None
        assert releases["1"].expected == Expected(before=20, use=0, measured=True)


def test_a_death_disturbs() -> None:
    ledger = Ledger()
    load, releases = ledger.begin_load(ONE), ledger.begin_stop({"1": 5})
    ledger.disturb(OTHER)
    assert not load.disturbed
    assert releases["1"].expected is None


def test_stops_that_overlap_wait_for_the_sum_counted_from_before_the_first() -> None:
    ledger = Ledger()
    first = ledger.begin_stop({"0": 10})
    second = ledger.begin_stop({"0": 17})
    first["0"].gone.append(Share(60, measured=True))
    assert second["0"].expected == Expected(before=10, use=60, measured=True), "the second engine is not gone yet"
    second["0"].gone.append(Share(20, measured=False))
    assert first["0"].expected == second["0"].expected == Expected(before=10, use=80, measured=False)
    ledger.end_stop(first)
    third = ledger.begin_stop({"0": 75})
    assert third["0"] is second["0"], "one of them is still under way"
    ledger.end_stop(second)
    ledger.end_stop(third)
    assert ledger.begin_stop({"0": 90})["0"].expected == Expected(before=90, use=0, measured=True)


def test_nothing_is_expected_while_one_of_the_shares_is_unknown() -> None:
    ledger = Ledger()
    (release,) = ledger.begin_stop({"0": 10}).values()
    release.gone += [Share(60, measured=True), Share(0, measured=False, known=False)]
    assert release.expected is None
