"""A stand-in for the module pynvml: the driver of a made-up box. Error numbers and names are the real module's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pynvml


@dataclass
class Memory:
    total: int
    free: int
    used: int = 0


@dataclass
class StubNvml:
    """devices: by index and by UUID, their memory or the number of the error that asking for it gives. init_error: what
    opening the library gives. opened: how often it was."""

    devices: dict[int | str, Memory | int] = field(default_factory=dict)
    init_error: int = 0
    opened: int = 0
    closed: int = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(pynvml, name)

    def nvmlInit(self) -> None:  # noqa: N802 - the library's names
        if self.init_error:
            raise pynvml.NVMLError(self.init_error)
        self.opened += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.closed += 1

    def _handle(self, device: int | str) -> int | str:
        if self.opened <= self.closed:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_UNINITIALIZED)
        if device not in self.devices:
            by_index = isinstance(device, int)
            raise pynvml.NVMLError(pynvml.NVML_ERROR_INVALID_ARGUMENT if by_index else pynvml.NVML_ERROR_NOT_FOUND)
        return device

    nvmlDeviceGetHandleByIndex = nvmlDeviceGetHandleByUUID = _handle  # noqa: N815

    def nvmlDeviceGetMemoryInfo(self, handle: int | str) -> Memory:  # noqa: N802
        memory = self.devices[handle]
        if isinstance(memory, int):
            raise pynvml.NVMLError(memory)
        return memory
