"""The gateway is killed in the middle of streams: its leases are void, the engines live on, the next one serves."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from observer import Observer, first_line, lines
from stack import Stack

pytestmark = pytest.mark.chaos


async def test_a_killed_gateways_leases_are_void(hearth: Observer, stack: Stack) -> None:
    await hearth.wake("left")
    await hearth.engines["left"].faults("stall-mid-stream=3")
    engine = stack.engine_process("left")
    async with hearth.stream("left") as stream:
        await first_line(stream, "data:")
        waiting = asyncio.create_task(hearth.chat("right"))
        await hearth.until_waiting(1)
        stack.gateway.kill()
        with pytest.raises(httpx.TransportError):
            async for _ in lines(stream):
                pass
        with pytest.raises(httpx.TransportError):
            await waiting
    await hearth.until_running("left", 0)
    assert len(await hearth.requests()) == 2, "nobody has said goodbye"
    stack.gateway.start()
    await hearth.until_no_requests()
    # nobody waits for the other model any more, so this one stays
    await hearth.until_phase("left", "ready")
    assert engine == stack.engine_process("left") is not None
    stack.until_up()
    await hearth.engines["left"].clear_faults()
    assert (await hearth.chat("left")).status_code == 200
    assert (await hearth.chat("right", max_tokens=2)).status_code == 200


async def test_a_gateway_that_is_asked_to_stop_says_goodbye(hearth: Observer, stack: Stack) -> None:
    await hearth.wake("small")
    async with hearth.stream("small", max_tokens=40) as stream:
        await first_line(stream, "data:")
        stopping = asyncio.create_task(asyncio.to_thread(stack.gateway.stop))
        assert [line async for line in lines(stream) if line][-1] == "data: [DONE]", "what runs is finished"
    await stopping
    assert await hearth.requests() == []
    assert await hearth.redis.smembers("hearth:workers") == set()
    assert (await hearth.phases())["small"] == "ready"
    stack.gateway.start()
    stack.until_up()
    assert (await hearth.chat("small")).status_code == 200
