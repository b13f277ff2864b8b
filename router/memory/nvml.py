"""A GPU's own memory, asked of the NVIDIA driver through NVML (the package nvidia-ml-py).

The library is looked for at the first question: a box without an NVIDIA GPU must not need it. On a DGX Spark the driver
answers "not supported" to the question for memory, because that GPU has none of its own.
"""

from __future__ import annotations

import contextlib
import importlib
import threading
from collections.abc import Callable
from typing import Any

from router.errors import MemoryUnknown


class NvmlAbsent(MemoryUnknown):
    """There is no NVML here, no driver behind it, or no such device: asking again does not help by itself."""


class NvmlUnreported(MemoryUnknown):
    """The driver knows the device and does not report memory of its own for it."""


class Nvml:
    """NVML, opened once and opened anew after an error; may be asked from several threads."""

    def __init__(self, load: Callable[[], Any] = lambda: importlib.import_module("pynvml")) -> None:
        self._load = load
        self._lock = threading.Lock()
        self._open: Any = None

    def free(self, device: str) -> int:
        """Free bytes. device: its index or its UUID, as `nvidia-smi -L` shows them. Raises MemoryUnknown."""
        with self._lock:
            nvml = self._opened()
            try:
                memory = nvml.nvmlDeviceGetMemoryInfo(_handle(nvml, device))
            except nvml.NVMLError as error:
                if error.value == nvml.NVML_ERROR_NOT_SUPPORTED:
                    raise NvmlUnreported(f"device {device}: NVML reports no memory") from error
                self._close()
                absent = error.value in (nvml.NVML_ERROR_NOT_FOUND, nvml.NVML_ERROR_INVALID_ARGUMENT)
                raise (NvmlAbsent if absent else MemoryUnknown)(f"device {device}: NVML: {error}") from error
            if not memory.total:
                raise NvmlUnreported(f"device {device}: NVML reports no memory")
            return int(memory.free)

    def _opened(self) -> Any:
        if self._open is None:
            try:
                nvml = self._load()
            except ImportError as error:
                raise NvmlAbsent("the package nvidia-ml-py is not installed") from error
            try:
                nvml.nvmlInit()
            except nvml.NVMLError as error:
                absent = error.value in (nvml.NVML_ERROR_LIBRARY_NOT_FOUND, nvml.NVML_ERROR_DRIVER_NOT_LOADED)
                raise (NvmlAbsent if absent else MemoryUnknown)(f"NVML: {error}") from error
            self._open = nvml
        return self._open

    def _close(self) -> None:
        """Let go of it: after a lost GPU or a changed driver only a new start of the library helps."""
        nvml, self._open = self._open, None
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlShutdown()


def _handle(nvml: Any, device: str) -> Any:
    if device.isdecimal():
        return nvml.nvmlDeviceGetHandleByIndex(int(device))
    if device.startswith(("GPU-", "MIG-")):
        return nvml.nvmlDeviceGetHandleByUUID(device)
    raise NvmlAbsent(f"{device!r} is no NVML device; set nvml_device to an index or UUID that `nvidia-smi -L` shows")
