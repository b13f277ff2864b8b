"""NVML through a stand-in for its module; the real library is not on the machines that run these tests."""

from __future__ import annotations

import pynvml
import pytest
from stub_nvml import Memory, StubNvml

from router.errors import MemoryUnknown
from router.memory.nvml import Nvml, NvmlAbsent, NvmlUnreported

UUID = "GPU-2dee1e25-b3b5-007e-2b55-79f2d0f2ebe5"


def test_free_memory_by_index_and_by_uuid_with_the_library_opened_once() -> None:
    stub = StubNvml({0: Memory(100, 40), 1: Memory(100, 50), UUID: Memory(100, 60)})
    nvml = Nvml(lambda: stub)
    assert [nvml.free(device) for device in ("0", "1", UUID)] == [40, 50, 60]
    assert stub.opened == 1


@pytest.mark.parametrize("memory", [pynvml.NVML_ERROR_NOT_SUPPORTED, Memory(0, 0)])
def test_device_without_memory_of_its_own(memory: Memory | int) -> None:
    """NVML_ERROR_NOT_SUPPORTED is what a DGX Spark's driver says."""
    with pytest.raises(NvmlUnreported, match="device 0: NVML reports no memory"):
        Nvml(lambda: StubNvml({0: memory})).free("0")


@pytest.mark.parametrize("device", ["1", "GPU-unknown", "MIG-unknown"])
def test_unknown_device(device: str) -> None:
    with pytest.raises(NvmlAbsent, match=f"device {device}"):
        Nvml(lambda: StubNvml({0: Memory(1, 1)})).free(device)


def test_name_that_is_no_device() -> None:
    with pytest.raises(NvmlAbsent, match="'spark' is no NVML device; set nvml_device"):
        Nvml(lambda: StubNvml({0: Memory(1, 1)})).free("spark")


@pytest.mark.parametrize("error", [pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED])
def test_box_without_a_driver(error: int) -> None:
    with pytest.raises(NvmlAbsent, match="NVML: "):
        Nvml(lambda: StubNvml(init_error=error)).free("0")


def test_package_that_is_not_installed() -> None:
    def load() -> None:
        raise ModuleNotFoundError("No module named 'pynvml'")

    with pytest.raises(NvmlAbsent, match="nvidia-ml-py is not installed"):
        Nvml(load).free("0")


def test_the_real_package_is_found() -> None:
    """On a machine with a driver it answers; elsewhere it says that there is none."""
    try:
        Nvml().free("no device")
    except MemoryUnknown as error:
        assert "not installed" not in str(error)  # noqa: PT017 - what it says depends on the machine


def test_error_is_told_and_the_library_opened_anew_after_it() -> None:
    stub = StubNvml({0: pynvml.NVML_ERROR_GPU_IS_LOST})
    nvml = Nvml(lambda: stub)
    with pytest.raises(MemoryUnknown, match="GPU is lost") as caught:
        nvml.free("0")
    assert not isinstance(caught.value, NvmlAbsent)
    stub.devices[0] = Memory(100, 70)
    assert nvml.free("0") == 70
    assert (stub.opened, stub.closed) == (2, 1)


def test_driver_that_fails_to_open_is_asked_again() -> None:
    stub = StubNvml({0: Memory(100, 70)}, init_error=pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH)
    nvml = Nvml(lambda: stub)
    with pytest.raises(MemoryUnknown, match="mismatch"):
        nvml.free("0")
    stub.init_error = 0
    assert nvml.free("0") == 70
