"""One stack for all end-to-end tests: a gateway takes long to start, and tests leave it as they found it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import anthropic
import openai
import pytest
from observer import Observer
from stack import LIMIT, MASTER_KEY, Model, Stack

MODELS = [
    Model("small"),
    Model("wild/*", served=("a", "b")),
    Model("faulty", lifecycle={"start_timeout": "20s"}),
    Model("idle", lifecycle={"idle_timeout": "1s"}),
    # says that it can do everything, and that it takes more than its engine does
    Model(
        "able",
        info={"max_input_tokens": 2048, "supports_function_calling": True, "supports_vision": True},
        options=("--max-model-len", "1536", "--prefill-tokens-per-second", "100000"),
    ),
    Model("patient", lifecycle={"idle_timeout": "1h"}),
    Model("hasty", lifecycle={"start_timeout": "1500ms"}),
    Model("missing", lifecycle={"command": ["no-such-program"]}),
    Model("left", gpu="1", memory="60GiB", tokens_per_second=40, alone=True, lifecycle={"stop_timeout": "2s"}),
    # one that the wildcard above would match
    Model("wild/retired", gpu="1", info={"catalogue": {"disabled": "it ate its cables"}}),
    Model("wild/huge", gpu="1", memory="101GiB"),
    Model("right", gpu="1", memory="60GiB", tokens_per_second=40, alone=True, lifecycle={"stop_timeout": "2s"}),
]


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The running stack. Its configuration lies beside a copy of plugins/, which must not matter."""
    with Stack(
        tmp_path_factory.mktemp("stack"),
        MODELS,
        gpus={"0": {"memory": "100GiB"}, "1": {"memory": "100GiB"}},
        settings={
            "keepalive_interval": "300ms",
            "max_body": "1MiB",
            # strictly by age: what the tests of a single swap are about; test_scheduling.py has the policy
            "scheduling": {"patience": 0, "minimum_service": 0, "hold_share": 0},
            "drain_timeout": "60s",
            "max_wait": "60s",
            "cooldown": {"first": "1s", "longest": "2s"},
        },
        extra={"router_settings": {"model_group_alias": {"tiny": "small", "giant": "wild/huge"}}},
        user_key=True,
        plugins_beside_config=True,
    ) as stack:
        yield stack


@pytest.fixture
async def hearth(stack: Stack) -> AsyncIterator[Observer]:
    """The stack as this test sees it. Afterwards nothing may be left of the test's requests, and no fault in force."""
    async with Observer(stack) as observer:
        yield observer
        for name in stack.models:
            stack.set_options(name)
        for name in await observer.awake():
            await observer.engines[name].clear_faults()
        await observer.until_no_requests()


@pytest.fixture
async def openai_client(hearth: Observer) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{hearth.stack.url}/v1", api_key=MASTER_KEY, max_retries=0, timeout=LIMIT
    ) as client:
        yield client


@pytest.fixture
async def anthropic_client(hearth: Observer) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(
        base_url=hearth.stack.url, api_key=MASTER_KEY, max_retries=0, timeout=LIMIT
    ) as client:
        yield client
