"""The engines' options against a parser: what is asked, what is made of the answer, and the script that asks."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from check_tree import ENVIRONMENT, edit, plant

from router.check import engine_flags, vllm_parser
from router.check.findings import Finding
from router.check.image_facts import EngineFacts, ImageFacts, Reference
from router.check.run import run
from router.check.subject import gather
from router.check.vllm_parser import Answer, ParserUnavailable, Verdict

pytestmark = pytest.mark.unit

#: vLLM, as far as the script looks at it: an argument parser, and registries of parsers.
FAKE = {
    "__init__.py": "__version__ = '9.9'\nprint('vLLM says something')\n",
    "utils/__init__.py": "",
    "utils/argparse_utils.py": """
import argparse
class FlexibleArgumentParser(argparse.ArgumentParser):
    def parse_args(self, args=None, namespace=None):
        return super().parse_args([
            word.replace('_', '-') if word.startswith('--') and '=' not in word else word for word in args
        ], namespace)
""",
    "entrypoints/__init__.py": "",
    "entrypoints/launchers/__init__.py": "",
    "entrypoints/launchers/cli_args.py": """
import argparse
def make_arg_parser(parser):
    parser.add_argument('model_tag', nargs='?')
    parser.add_argument('--port', type=int)
    parser.add_argument('--max-model-len', type=int)
    parser.add_argument('--kv-cache-dtype', '-kv', choices=['auto', 'fp8'])
    parser.add_argument('--log-this'), parser.add_argument('--log-that')
    parser.add_argument('--served-model-name', nargs='+')
    parser.add_argument('--download-dir'), parser.add_argument('--gpu-memory-utilization', type=float)
    parser.add_argument('--enable-auto-tool-choice', action=argparse.BooleanOptionalAction)
    parser.add_argument('--tool-call-parser'), parser.add_argument('--tool-parser-plugin')
    parser.add_argument('--reasoning-parser'), parser.add_argument('--reasoning-parser-plugin')
    parser.add_argument('--chat-template')
    return parser
def validate_parsed_serve_args(args):
    if args.chat_template is not None:
        raise ValueError('the template is in the image')
    if args.enable_auto_tool_choice and not args.tool_call_parser:
        raise TypeError('Error: --enable-auto-tool-choice requires --tool-call-parser')
""",
    "tool_parsers.py": "class ToolParserManager:\n    list_registered = staticmethod(lambda: ['hermes'])\n",
    "reasoning.py": "class ReasoningParserManager:\n    list_registered = staticmethod(lambda: ['qwen3'])\n",
}


@pytest.fixture
def box(tmp_path: Path) -> Path:
    plant(tmp_path)
    return tmp_path


@pytest.fixture
def fake_vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in FAKE.items():
        file = tmp_path / "fake" / "vllm" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fake"))


def findings(box: Path, **verdicts: Verdict) -> list[Finding]:
    """What is made of these verdicts; the other commands have nothing wrong."""
    subject = gather(box / "litellm_config.yaml", None, ENVIRONMENT)
    answers = {name: Verdict(unknown=[], refused=[]) for name in engine_flags.questions(subject)}
    answers |= {name.replace("_", "-"): verdict for name, verdict in verdicts.items()}
    return list(engine_flags.check(subject, Answer(version="9.9", answers=answers)))


def unknown(*options: str) -> Verdict:
    return Verdict(unknown=list(options), refused=[])


def test_every_vllm_command_is_asked_about_and_no_other(box: Path) -> None:
    asked = engine_flags.questions(gather(box / "litellm_config.yaml", None, ENVIRONMENT))
    assert set(asked) == {"box-main", "box-broken"}
    assert asked["box-broken"][:3] == ("/models/broken", "--served-model-name", "broken")


def test_an_unknown_option_is_an_error_unless_it_is_listed_for_the_image(box: Path) -> None:
    assert findings(box, box_main=unknown("--own-option")) == []
    (found,) = findings(box, box_main=unknown("--own-option", "--max-modle-len"))
    assert found.code == "engine-flag"
    assert "vLLM 9.9 does not know --max-modle-len" in found.message
    edit(box, "compose/models.yml", "${MAIN_IMAGE:-own-vllm}", "${MAIN_IMAGE:-another-vllm}")
    codes = [found.code for found in findings(box, box_main=unknown("--own-option"))]
    assert codes == ["engine-flag", "flag-unused"]


def test_a_value_that_is_refused_is_an_error_in_the_parsers_words(box: Path) -> None:
    refused = Verdict(unknown=["--own-option"], refused=[("--port", "argument --port: invalid int value: 'x'")])
    (found,) = findings(box, box_main=refused)
    assert (found.code, found.message) == (
        "engine-value",
        "box-main: vLLM 9.9: argument --port: invalid int value: 'x'",
    )


def test_a_listed_option_that_the_parser_knows_needs_no_list(box: Path) -> None:
    (found,) = findings(box)
    assert found.code == "flag-known"
    assert "--own-option" in found.message
    excused = Verdict(unknown=[], refused=[("--own-option", "argument --own-option: the fork takes more values")])
    assert findings(box, box_main=excused) == []


def test_facts_of_an_image_are_found_with_and_without_its_tag() -> None:
    facts = EngineFacts(
        images={
            "example/engine": ImageFacts(flags={"--a": "all tags"}),
            "example/engine:2": ImageFacts(flags={"--b": "this tag"}, entrypoint="vllm"),
        }
    )
    assert facts.of("example/engine:2@sha256:00") == ImageFacts(
        flags={"--a": "all tags", "--b": "this tag"}, entrypoint="vllm"
    )
    assert set(facts.of("example/engine:1").flags) == {"--a"}
    assert facts.of("example/other") == facts.of(None) == ImageFacts()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("name", ("name", None, None)),
        ("name:1", ("name", "1", None)),
        ("host:5000/name", ("host:5000/name", None, None)),
        ("host:5000/a/name:1@sha256:ab", ("host:5000/a/name", "1", "sha256:ab")),
        ("a/name@sha256:ab", ("a/name", None, "sha256:ab")),
    ],
)
def test_image_names_are_taken_apart(text: str, parts: tuple[str, str | None, str | None]) -> None:
    found = Reference.parse(text)
    assert (found.repository, found.tag, found.digest) == parts


@pytest.mark.usefixtures("fake_vllm")
def test_the_script_tells_all_that_the_parser_refuses_not_only_the_first() -> None:
    answer = vllm_parser.ask(
        sys.executable,
        {
            "good": ["a/b", "--served-model-name", "x", "y", "--port=1", "--chat-template=/in/the/image.jinja"],
            "unknown": ["a/b", "--mxfp4-backend=CUTLASS", "--own", "value", "--port", "1"],
            "values": ["a/b", "--port=x", "-kv", "fp9", "--max_model_len", "long", "--own"],
            "prefix": ["a/b", "--log=1", "--own"],
            "together": ["a/b", "--enable-auto-tool-choice"],
            "names": ["a/b", "--tool-call-parser=hermès", "--reasoning-parser=qwen3"],
            "plugin": ["a/b", "--reasoning-parser=own", "--reasoning-parser-plugin=own.py"],
        },
    )
    assert answer.version == "9.9"
    found = answer.answers
    assert found["good"] == found["plugin"] == Verdict(unknown=[], refused=[])
    assert found["unknown"] == Verdict(unknown=["--mxfp4-backend", "--own"], refused=[])
    assert found["values"].unknown == ["--own"]
    assert {option for option, _ in found["values"].refused} == {"--port", "--kv-cache-dtype", "--max-model-len"}
    assert "invalid int value: 'x'" in dict(found["values"].refused)["--port"]
    assert [option for option, _ in found["prefix"].refused] == ["--log"]
    assert found["together"].refused == [(None, "--enable-auto-tool-choice requires --tool-call-parser")]
    assert [option for option, _ in found["names"].refused] == ["--tool-call-parser"]


@pytest.mark.usefixtures("fake_vllm")
def test_a_check_with_a_parser_says_which(box: Path) -> None:
    outcome = run(box / "litellm_config.yaml", None, ENVIRONMENT, sys.executable)
    assert (outcome.findings, outcome.vllm) == ([], "9.9")


def test_a_python_that_cannot_answer_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def python(name: str, script: str) -> str:
        file = tmp_path / name
        file.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        file.chmod(0o755)
        return str(file)

    for called, said in (
        (str(tmp_path / "nowhere"), "cannot be run"),
        (python("fails", "cat >/dev/null; echo first >&2; echo it fails >&2; exit 3"), "it fails"),
        (python("chats", "cat >/dev/null; echo hello"), "no answer that makes sense"),
    ):
        with pytest.raises(ParserUnavailable, match=said):
            vllm_parser.ask(called, {"a": ["b"]})
    with pytest.raises(ParserUnavailable, match="did not answer"):
        vllm_parser.ask(python("sleeps", "exec sleep 600"), {"a": ["b"]}, limit=0.2)
    moved = tmp_path / "moved" / "vllm"
    moved.mkdir(parents=True)
    (moved / "__init__.py").write_text("", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(moved.parent))
    with pytest.raises(ParserUnavailable, match="keeps its argument parser elsewhere"):
        vllm_parser.ask(sys.executable, {"a": ["b"]})


def test_the_answer_is_the_only_thing_on_stdout(tmp_path: Path) -> None:
    answer = tmp_path / "answer.json"
    answer.write_text(json.dumps({"version": "1", "answers": {"a": {"unknown": [], "refused": [[None, "no"]]}}}))
    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\ncat >/dev/null; cat {answer}\n", encoding="utf-8")
    script.chmod(0o755)
    assert os.access(script, os.X_OK)
    assert vllm_parser.ask(str(script), {"a": ["b"]}).answers["a"].refused == [(None, "no")]
