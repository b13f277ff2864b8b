"""The whole search against a gateway and an engine that count, refuse and shorten in known ways."""

from __future__ import annotations

import re

import pytest
from fake_gateway import FakeGateway

from router.catalogue import Card
from router.cli.server import ServerError
from router.cli.soak import _plan
from router.trying.asking import Asker, NoAnswer
from router.trying.ceiling import Outcome
from router.trying.report import Subject, as_json, verdict
from router.trying.soak import Load, Soak

pytestmark = pytest.mark.unit

LOAD = Load(concurrency=2, output_tokens=32)


def letters(text: str) -> int:
    return len(text.encode())


def words(text: str) -> int:
    return len(re.findall(r"\w+|[^\w\s]", text))


async def soaked(gateway: FakeGateway, promised: int, sizes: tuple[int, ...] = ()) -> Outcome:
    with gateway:
        async with Asker(gateway.url, None, 30) as asker:
            soak = Soak(asker, "m", LOAD)
            await soak.run(_plan(sizes, Card(name="m", context=promised), LOAD))
    assert soak.outcome.complete
    return soak.outcome


@pytest.mark.parametrize("context", [1024, 2048, 20_000])
@pytest.mark.parametrize("tokens", [letters, words])
async def test_an_engine_that_holds_its_promise_passes_at_the_top(tokens: object, context: int) -> None:
    assert callable(tokens)
    gateway = FakeGateway(tokens, context=context, template=90)
    outcome = await soaked(gateway, context)
    assert [tier.reason for tier in outcome.tiers if not tier.passed] == []
    assert outcome.limited_by == ""
    assert outcome.ceiling is not None
    assert context - 2 * LOAD.output_tokens - 60 <= outcome.ceiling <= context - LOAD.output_tokens


@pytest.mark.parametrize("real", [700, 5_000, 30_000])
async def test_where_the_engine_ends_is_found_by_its_own_tokens(real: int) -> None:
    gateway = FakeGateway(letters, context=real)
    outcome = await soaked(gateway, 32_768)
    assert outcome.limited_by == "engine"
    assert outcome.ceiling is not None
    assert real - LOAD.output_tokens - 512 - 60 <= outcome.ceiling <= real - LOAD.output_tokens
    measuring = [len(body["messages"][0]["content"]) for body in gateway.asked[:3] if not body.get("stream")]
    assert max(measuring) < 1100, "nothing is measured with long prompts"


async def test_what_the_gateway_refuses_is_no_fault_of_the_engine() -> None:
    gateway = FakeGateway(words, context=8192, rules=(letters, 12_000))
    outcome = await soaked(gateway, 8192)
    failed = [tier for tier in outcome.tiers if not tier.passed]
    assert failed
    assert {tier.limited_by for tier in failed} == {"gateway"}
    assert all("no engine has seen it" in tier.reason for tier in failed)
    assert all(len(body["messages"][0]["content"]) > 200 for body in gateway.asked), "it did not ask whether it is back"
    subject = Subject("m", "2026-01-31T12:00:00Z", 8192, LOAD)
    assert "the engine may hold more" in verdict(subject, outcome)
    assert as_json(subject, outcome)["limited_by"] == "gateway"


async def test_an_answer_that_the_gateway_shortened_is_told_from_a_full_context() -> None:
    outcome = await soaked(FakeGateway(words, context=9000, shortened=5), 8192, sizes=(1000,))
    assert outcome.tiers[0].limited_by == "gateway"
    assert "max_tokens=5" in outcome.tiers[0].reason


async def test_an_engine_that_refuses_is_said_to_be_the_engine() -> None:
    outcome = await soaked(FakeGateway(words, context=2000), 8192, sizes=(1000, 3000))
    assert [(tier.passed, tier.limited_by) for tier in outcome.tiers] == [(True, ""), (False, "engine")]
    assert "the context of the engine" in outcome.tiers[1].reason


async def test_sizes_below_the_question_itself_are_told() -> None:
    with pytest.raises(NoAnswer, match=r"the smallest prompt has \d+ tokens here"):
        await soaked(FakeGateway(letters), 4096, sizes=(100, 1000))


def test_answers_longer_than_the_model_gives_are_refused_at_once() -> None:
    with pytest.raises(ServerError, match="smaller --output-tokens"):
        _plan((), Card(name="m", context=2048, output=8), LOAD)
    with pytest.raises(ServerError, match="leave no room"):
        _plan((), Card(name="m", context=32), LOAD)
