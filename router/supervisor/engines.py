"""The engines of the process runtime at the end: they outlive the router, so the supervisor stops them."""

from __future__ import annotations

import asyncio
from pathlib import Path

from router.config import Config, ModelSpec
from router.errors import EngineStopFailed
from router.runtimes.process import ProcessRuntime


async def running_engines(config: Config, state_dir: Path) -> list[str]:
    """The models whose engine runs as a process, also those that an earlier router started."""
    if config.settings.runtime != "process":
        return []
    runtime = ProcessRuntime(config.models, state_dir)
    try:
        return [spec.name for spec in config.models.values() if (await runtime.inspect(spec)).running]
    finally:
        await runtime.close()


async def stop_engines(config: Config, state_dir: Path, hurry: asyncio.Event) -> list[str]:
    """Stop them all at once, each within its stop_timeout; when `hurry` is set, by force. Returns what went wrong."""
    if config.settings.runtime != "process":
        return []
    runtime = ProcessRuntime(config.models, state_dir)
    try:
        patient = asyncio.create_task(_stop_all(runtime, list(config.models.values())), name="stop-engines")
        hurried = asyncio.create_task(hurry.wait(), name="hurry")
        try:
            await asyncio.wait({patient, hurried}, return_when=asyncio.FIRST_COMPLETED)
            if patient.done():
                return patient.result()
        finally:
            for task in (patient, hurried):
                task.cancel()
            await asyncio.gather(patient, hurried, return_exceptions=True)
        at_once = [spec.model_copy(update={"stop_timeout": 0.0}) for spec in config.models.values()]
        return await _stop_all(runtime, at_once)
    finally:
        await runtime.close()


async def _stop_all(runtime: ProcessRuntime, specs: list[ModelSpec]) -> list[str]:
    async def stop(spec: ModelSpec) -> str:
        try:
            await runtime.stop(spec)
        except EngineStopFailed as error:
            return str(error)
        return ""

    return [fault for fault in await asyncio.gather(*(stop(spec) for spec in specs)) if fault]
