"""Faults as they are written on the command line and over HTTP."""

import pytest

from router.engine_simulator import faults as fault
from router.engine_simulator.faults import KNOWN, FaultError, Faults


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("exit-while-loading=1@0.5", fault.ExitWhileLoading(1, 0.5)),
        ("exit-while-loading=137", fault.ExitWhileLoading(137, 0.0)),
        ("never-ready", fault.NeverReady()),
        ("unhealthy", fault.Unhealthy()),
        ("die-mid-stream=5", fault.DieMidStream(5, 1)),
        ("die-mid-stream=137@5", fault.DieMidStream(5, 137)),
        ("error-mid-stream=3", fault.ErrorMidStream(3)),
        ("truncated-stream=0", fault.TruncatedStream(0)),
        ("http-500", fault.Http500()),
        ("hang-before-first-token", fault.HangBeforeFirstToken()),
        ("stall-mid-stream=2", fault.StallMidStream(2)),
        ("slow-first-token=1.5", fault.SlowFirstToken(1.5)),
        ("ignore-sigterm", fault.IgnoreSigterm()),
        ("hang-on-sigterm", fault.HangOnSigterm()),
        ("exit-zero-on-crash", fault.ExitZeroOnCrash(4.9)),
        ("exit-zero-on-crash=0.2", fault.ExitZeroOnCrash(0.2)),
        ("refuse-connections", fault.RefuseConnections()),
    ],
)
def test_each_fault_is_read_and_written_back(spec: str, expected: fault.Fault) -> None:
    faults = Faults([spec])
    assert faults.get(type(expected)) == expected
    assert faults.specs() == [spec]
    assert [kind for kind in KNOWN.values() if faults.get(kind)] == [type(expected)]


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        (["no-such-thing"], "unknown fault 'no-such-thing'; known: exit-while-loading=CODE"),
        (["error-mid-stream"], "TOKENS must be a number"),
        (["error-mid-stream=1.5"], "TOKENS must be a whole number"),
        (["error-mid-stream=-1"], "TOKENS must be a number of at least 0"),
        (["slow-first-token=nan"], "SECONDS must be a number"),
        (["slow-first-token=inf"], "SECONDS must be a number"),
        (["http-500=1"], "http-500 takes no value"),
        (["exit-while-loading=@1"], "CODE must be a number"),
        (["http-500", "http-500"], "http-500 is given twice"),
    ],
)
def test_what_cannot_be_read_is_explained(specs: list[str], message: str) -> None:
    with pytest.raises(FaultError, match=message.replace("(", r"\(").replace("[", r"\[")):
        Faults(specs)


def test_an_unknown_fault_lists_every_known_one() -> None:
    with pytest.raises(FaultError) as caught:
        Faults(["x"])
    assert all(name in str(caught.value) for name in KNOWN)
