"""Every option of every vLLM container, against vLLM's own argument parser."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from router.check import engine_flags, vllm_parser
from router.check.findings import Severity
from router.check.subject import DISABLED, Subject, gather
from router.check.vllm_parser import Answer

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(400)]

ROOT = Path(__file__).parents[2]
#: Command lines that no vLLM takes, or that only some do.
PROBES = {
    "good": ["a/b", "--max-model-len", "128k", "--kv_cache_dtype=fp8", "--speculative-config", '{"method": "mtp"}'],
    "unknown": ["a/b", "--mxfp4-backend", "CUTLASS", "--port=8000", "--max-modle-len=1"],
    "gone": ["a/b", "--disable-log-requests"],
    "values": ["a/b", "--kv-cache-dtype=fp9", "--max-num-seqs", "many", "--port", "8000"],
    "together": ["a/b", "--enable-auto-tool-choice"],
    "parser": ["a/b", "--enable-auto-tool-choice", "--tool-call-parser=nobodys"],
    "plugin": ["a/b", "--reasoning-parser=own", "--reasoning-parser-plugin=/in/the/image.py"],
    "template": ["a/b", "--chat-template=/in/the/image.jinja"],
}


@pytest.fixture(scope="module")
def python() -> str:
    found = os.environ.get("HEARTH_TEST_VLLM_PYTHON")
    if not found:
        pytest.skip("HEARTH_TEST_VLLM_PYTHON not set; tests/environment/prepare makes it")
    return found


@pytest.fixture(scope="module")
def subject() -> Subject:
    return gather(ROOT / "litellm_config.yaml", None, {})


@pytest.fixture(scope="module")
def one_gpu() -> Subject:
    return gather(ROOT / "examples" / "one-gpu.yaml", ROOT / "docker-compose.one-gpu.yml", {})


@pytest.fixture(scope="module")
def answer(python: str, subject: Subject, one_gpu: Subject) -> Answer:
    """All questions in one process: most of the time goes into loading vLLM."""
    return vllm_parser.ask(python, {**engine_flags.questions(subject), **engine_flags.questions(one_gpu), **PROBES})


def test_every_option_is_known_or_listed_for_its_image(subject: Subject, answer: Answer) -> None:
    found = list(engine_flags.check(subject, answer))
    assert [finding for finding in found if finding.severity is Severity.ERROR] == []
    asked = engine_flags.questions(subject)
    assert asked.keys() <= answer.answers.keys()
    enabled = [service for service in subject.model_services if DISABLED not in service.profiles]
    assert len([service for service in enabled if service.name in asked]) >= 2


def test_so_is_every_option_for_one_card(one_gpu: Subject, answer: Answer) -> None:
    assert {finding.code for finding in engine_flags.check(one_gpu, answer)} <= {"flag-unused"}
    assert engine_flags.questions(one_gpu).keys() == {"vllm-helper", "vllm-chat", "vllm-vision"}


def test_the_list_excuses_nothing_else(subject: Subject, answer: Answer) -> None:
    """What vLLM does not know is exactly what is listed: nothing is excused that it knows, or that nobody uses."""
    found = [finding for finding in engine_flags.check(subject, answer) if finding.code != "flag-twice"]
    assert found == []


def test_the_parser_says_what_it_does_not_take(answer: Answer) -> None:
    found = answer.answers
    assert answer.version.startswith("0.32")
    for name in ("good", "plugin", "template"):
        assert (found[name].unknown, found[name].refused) == ([], []), name
    assert found["unknown"].unknown == ["--mxfp4-backend", "--max-modle-len"]
    assert found["gone"].unknown == ["--disable-log-requests"]
    refused = dict(found["values"].refused)
    assert set(refused) == {"--kv-cache-dtype", "--max-num-seqs"}
    assert "'fp9'" in refused["--kv-cache-dtype"]
    assert found["together"].refused == [(None, "--enable-auto-tool-choice requires --tool-call-parser")]
    assert [option for option, _ in found["parser"].refused] == ["--tool-call-parser"]
