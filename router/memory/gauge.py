"""The narrow interface to measured memory, and which way of measuring each GPU gets from its configuration."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from router.errors import ConfigError, MemoryUnknown
from router.memory.meminfo import Meminfo
from router.memory.nvml import Nvml, NvmlAbsent, NvmlUnreported
from router.settings import GpuSettings

log = logging.getLogger(__name__)

#: The longest (s) that one reading may take; a driver that hangs must not hold up the router.
READ_LIMIT = 2.0


class MemoryGauge(Protocol):
    """Tells how much memory of a GPU is free."""

    async def free(self, gpu: str) -> int | None:
        """Bytes of the GPU (its name in the configuration) that could be used now; None when it is not measured.
        Raises MemoryUnknown when it is measured but could not be read this time."""


class Sensor(Protocol):
    """One GPU, read by a blocking call."""

    def read(self) -> int | None:
        """See MemoryGauge.free."""


class Gauges:
    """A MemoryGauge with a sensor for each GPU that is measured. Readings are made in a thread of its own: a driver
    that hangs in one must not use up the threads that everything else works with."""

    def __init__(self, sensors: Mapping[str, Sensor]) -> None:
        self._sensors = sensors
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="memory-gauge")

    async def free(self, gpu: str) -> int | None:
        sensor = self._sensors.get(gpu)
        if sensor is None:
            return None
        try:
            async with asyncio.timeout(READ_LIMIT):
                return await asyncio.get_running_loop().run_in_executor(self._thread, sensor.read)
        except TimeoutError:
            raise MemoryUnknown(f"GPU {gpu}: its memory could not be read within {READ_LIMIT:.0f} s") from None


class NvmlSensor:
    """Asks the NVIDIA driver. device: see Nvml.free."""

    def __init__(self, nvml: Nvml, device: str) -> None:
        self._nvml = nvml
        self._device = device

    def read(self) -> int:
        return self._nvml.free(self._device)


class MeminfoSensor:
    """Reads the system's own memory, for GPUs that share it."""

    def __init__(self, meminfo: Meminfo) -> None:
        self._meminfo = meminfo

    def read(self) -> int:
        return self._meminfo.read().available


class AutoSensor:
    """NVML where it reports the GPU's memory. Where it knows the GPU but not its memory, the memory is the system's:
    that is what it says of unified memory. Without NVML nothing is measured."""

    def __init__(self, gpu: str, nvml: NvmlSensor, meminfo: MeminfoSensor) -> None:
        self._gpu = gpu
        self._nvml = nvml
        self._meminfo = meminfo
        self._unified = False
        self._said = ""

    def read(self) -> int | None:
        if self._unified:
            return self._meminfo.read()
        try:
            return self._nvml.read()
        except NvmlUnreported:
            self._unified = True
            self._say("shares its memory with the system, which is read instead")
            return self._meminfo.read()
        except NvmlAbsent as error:
            self._say(f"is not measured: {error}")
            return None

    def _say(self, what: str) -> None:
        if what != self._said:
            log.info("GPU %s %s", self._gpu, what)
        self._said = what


async def free_now(gauge: MemoryGauge, gpus: Iterable[str]) -> dict[str, int | None]:
    """Free bytes of each GPU; None where it is not measured, or could not be read now."""
    found: dict[str, int | None] = {}
    for gpu in gpus:
        with contextlib.suppress(MemoryUnknown):
            found[gpu] = await gauge.free(gpu)
    return found


def open_gauges(gpus: Mapping[str, GpuSettings], nvml: Nvml | None = None, meminfo: Meminfo | None = None) -> Gauges:
    """The gauges that the configuration asks for. One that is asked for by its name must work here and now: raises
    ConfigError otherwise. What `auto` finds decides itself with the first reading."""
    nvml, meminfo = nvml or Nvml(), meminfo or Meminfo()
    system = MeminfoSensor(meminfo)
    sensors: dict[str, Sensor] = {}
    faults: list[str] = []
    for name, settings in gpus.items():
        driver = NvmlSensor(nvml, settings.nvml_device or name)
        match settings.measure:
            case "off":
                continue
            case "auto":
                sensors[name] = AutoSensor(name, driver, system)
                continue
            case "nvml":
                sensors[name] = driver
            case "meminfo":
                sensors[name] = system
        try:
            sensors[name].read()
        except MemoryUnknown as error:
            where = f"general_settings.lifecycle.gpus.{name}.measure"
            faults.append(f"{where}: {settings.measure} does not work here: {error}; `auto` and `off` do without")
    if faults:
        raise ConfigError("\n".join(faults))
    return Gauges(sensors)
