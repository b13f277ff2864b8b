"""Which way of measuring each GPU gets, and what becomes of a reading that fails or hangs."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pynvml
import pytest
from stub_nvml import Memory, StubNvml

from router.errors import ConfigError, MemoryUnknown
from router.memory import gauge as gauge_module
from router.memory.gauge import Gauges, free_now, open_gauges
from router.memory.meminfo import Meminfo
from router.memory.nvml import Nvml
from router.settings import GpuSettings

SYSTEM = 90 * 1024


@pytest.fixture
def meminfo(tmp_path: Path) -> Meminfo:
    path = tmp_path / "meminfo"
    path.write_text("MemTotal:       100 kB\nMemFree:        20 kB\nMemAvailable:   90 kB\n")
    return Meminfo(path)


def gpus(**measure: Any) -> dict[str, GpuSettings]:
    return {"0": GpuSettings(memory=100, **measure)}


async def free(stub: StubNvml, meminfo: Meminfo, **measure: Any) -> int | None:
    return await open_gauges(gpus(**measure), Nvml(lambda: stub), meminfo).free("0")


async def test_auto_asks_the_driver_where_it_reports_memory(meminfo: Meminfo) -> None:
    assert await free(StubNvml({0: Memory(100, 40)}), meminfo) == 40


async def test_auto_reads_the_system_where_the_driver_reports_none(meminfo: Meminfo) -> None:
    stub = StubNvml({0: pynvml.NVML_ERROR_NOT_SUPPORTED})
    gauges = open_gauges(gpus(), Nvml(lambda: stub), meminfo)
    assert await gauges.free("0") == SYSTEM
    stub.devices[0] = Memory(100, 40)
    assert await gauges.free("0") == SYSTEM, "what the GPU is does not change"


async def test_auto_without_a_driver_measures_nothing_until_there_is_one(meminfo: Meminfo) -> None:
    stub = StubNvml({0: Memory(100, 40)}, init_error=pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)
    gauges = open_gauges(gpus(), Nvml(lambda: stub), meminfo)
    assert await gauges.free("0") is None
    stub.init_error = 0
    assert await gauges.free("0") == 40


async def test_auto_does_not_hide_a_fault(meminfo: Meminfo) -> None:
    with pytest.raises(MemoryUnknown, match="GPU is lost"):
        await free(StubNvml({0: pynvml.NVML_ERROR_GPU_IS_LOST}), meminfo)


async def test_what_is_asked_for_is_what_is_read(meminfo: Meminfo) -> None:
    stub = StubNvml({0: Memory(100, 40), 3: Memory(100, 50)})
    assert await free(stub, meminfo, measure="nvml") == 40
    assert await free(stub, meminfo, measure="nvml", nvml_device=3) == 50
    assert await free(stub, meminfo, measure="meminfo") == SYSTEM
    assert await free(stub, meminfo, measure="off") is None
    assert await open_gauges(gpus(), Nvml(lambda: stub), meminfo).free("another") is None


def test_what_is_asked_for_and_does_not_work_is_a_fault_of_the_configuration(tmp_path: Path) -> None:
    settings = {
        "a": GpuSettings(memory=100, measure="nvml"),
        "b": GpuSettings(memory=100, measure="meminfo"),
        "c": GpuSettings(memory=100),
    }
    with pytest.raises(ConfigError) as caught:
        open_gauges(settings, Nvml(lambda: StubNvml({0: Memory(1, 1)})), Meminfo(tmp_path / "nothing"))
    first, second = str(caught.value).splitlines()
    assert first.startswith("general_settings.lifecycle.gpus.a.measure: nvml does not work here: 'a' is no NVML device")
    assert "gpus.b.measure: meminfo does not work here" in second


async def test_reading_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gauge_module, "READ_LIMIT", 0.05)
    go_on = threading.Event()

    class Hanging:
        def read(self) -> int:
            go_on.wait(20)
            return 5

    gauges = Gauges({"0": Hanging(), "1": Hanging()})
    try:
        with pytest.raises(MemoryUnknown, match="could not be read within"):
            await gauges.free("0")
        assert await free_now(gauges, ["0", "1", "2"]) == {"2": None}
    finally:
        go_on.set()
