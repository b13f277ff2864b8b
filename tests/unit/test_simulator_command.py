"""`hearth simulate` as it is typed: what it prints, draws and refuses."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from router.api.views import EndedRequestView
from router.cli.main import app
from router.simulator.command import POLICIES
from router.simulator.lengths import BUILT_IN, read_trace

ROOT = Path(__file__).parents[2]
KEYS = {
    "policy", "requests", "session_stretch", "wait_mean_s", "wait_p50_s", "wait_p99_s", "wait_max_s", "bound_s",
    "swaps", "load_seconds",
}  # fmt: skip
PNG = b"\x89PNG\r\n"


@pytest.fixture(autouse=True)
def directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty working directory with two models, and no server that could be found."""
    for name in [*os.environ]:
        if name.startswith(("HEARTH_", "LITELLM_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HEARTH_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models.yaml").write_text("[{name: a, load_seconds: 10}, {name: b, load_seconds: 20, share: 0.5}]")
    return tmp_path


def simulate(*arguments: str, text: str = "") -> Result:
    return CliRunner().invoke(app, ["simulate", *arguments], input=text)


def numbers(*arguments: str, text: str = "") -> list[dict[str, Any]]:
    done = simulate("--json", *arguments, text=text)
    assert done.exit_code == 0, done.output
    assert all(done.stderr.splitlines()), "no empty lines"
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


SESSIONS = ("--models", "models.yaml", "--sessions-per-hour", "4", "--hours", "2")


def test_what_says_nothing_of_the_workload_is_told() -> None:
    arrivals = ("--models", "models.yaml", "--arrivals-per-minute", "1", "--hours", "1", "--policy", "hearth")
    assert "--steps is not used" in simulate(*arrivals, "--steps", "3").stdout
    assert "not used" not in simulate(*arrivals, "--run", "3").stdout
    assert "--run is not used" in simulate(*SESSIONS, "--policy", "hearth", "--run", "3").stdout


def test_json_is_a_list_with_an_object_for_each_policy() -> None:
    found = numbers(*SESSIONS)
    assert [each["policy"] for each in found] == list(POLICIES)
    assert all(set(each) == KEYS for each in found)
    assert len({each["requests"] for each in found}) == 1, "the same workload for all"
    assert [each["bound_s"] is None for each in found] == [False, True, True, True]


def test_policies_in_the_order_in_which_they_are_asked_for() -> None:
    found = numbers(*SESSIONS, "--policy", "refuse", "--policy", "hearth", "--policy", "refuse")
    assert [each["policy"] for each in found] == ["refuse", "hearth"]


def test_table_has_a_row_for_each_number() -> None:
    done = simulate(*SESSIONS, "--policy", "hearth", "--policy", "strict-fifo")
    assert done.exit_code == 0, done.output
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows[0] == ["hearth", "strict-fifo"]
    assert {row[0] for row in rows[1:]} == KEYS - {"policy"}


def test_seed_decides() -> None:
    one, again, other = (numbers(*SESSIONS, "--policy", "hearth", "--seed", seed) for seed in ("7", "7", "8"))
    assert one == again
    assert one != other


def test_workload_follows_its_options() -> None:
    few, many = (numbers(*SESSIONS, "--policy", "hearth", "--steps", steps)[0]["requests"] for steps in ("2", "60"))
    assert few < many
    arrivals = numbers("--models", "models.yaml", "--arrivals-per-minute", "2", "--hours", "1", "--policy", "hearth")
    assert 80 < arrivals[0]["requests"] < 160


def test_trace_gives_the_lengths(directory: Path) -> None:
    (directory / "trace.csv").write_text("TIMESTAMP,ContextTokens,GeneratedTokens\nx,10,20\ny, 30 ,4\n")
    assert read_trace(directory / "trace.csv") == [(10, 20), (30, 4)]
    short = numbers(*SESSIONS, "--policy", "hearth", "--trace", "trace.csv")
    assert short[0]["session_stretch"] != numbers(*SESSIONS, "--policy", "hearth")[0]["session_stretch"]


def test_built_in_lengths_are_a_few_dozen_pairs() -> None:
    assert 24 <= len(set(BUILT_IN)) <= 60
    assert 1000 < sum(pair[0] for pair in BUILT_IN) / len(BUILT_IN) < 1300
    assert 150 < sum(pair[1] for pair in BUILT_IN) / len(BUILT_IN) < 250


def copy_configuration(directory: Path) -> None:
    """The shipped one, with what it includes."""
    shutil.copy(ROOT / "litellm_config.yaml", directory)
    shutil.copytree(ROOT / "compose", directory / "compose")


def test_models_of_the_configuration_and_what_is_assumed(directory: Path) -> None:
    copy_configuration(directory)
    done = simulate("--sessions-per-hour", "4", "--hours", "1", "--policy", "hearth")
    assert done.exit_code == 0, done.output
    assert (
        "Models of litellm_config.yaml. Loads assumed to take 60 s (No server at http://127.0.0.1:1): " in done.stdout
    )
    as_json = simulate("--sessions-per-hour", "4", "--hours", "1", "--policy", "hearth", "--json")
    assert json.loads(as_json.stdout)[0]["requests"] > 0
    assert "assumed" in as_json.stderr


def history(count: int, model: str = "a") -> str:
    ended = [
        EndedRequestView(model=model, caller="x", joined=at, granted=at + 1, ended=at + 3, completed=True)
        for at in range(0, 10 * count, 10)
    ]
    return "".join(f"{each.model_dump_json()}\n" for each in ended)


@pytest.mark.parametrize("source", ["week.jsonl", "-"])
def test_replay_of_a_file_and_of_standard_input(directory: Path, source: str) -> None:
    (directory / "week.jsonl").write_text(history(5) + history(2, "gone"))
    arguments = ("--models", "models.yaml", "--replay", source)
    text = (directory / "week.jsonl").read_text() if source == "-" else ""
    assert [each["requests"] for each in numbers(*arguments, text=text)] == [5] * len(POLICIES)
    assert "these models are not here: gone (2)" in simulate(*arguments, text=text).stdout
    assert numbers(*arguments, "--hours", "0.01", text=text)[0]["requests"] == 4


def test_drain_limit_that_cuts_somebody_off_is_told(directory: Path) -> None:
    copy_configuration(directory)
    long = EndedRequestView(
        model="gpt-oss-120b", caller="x", joined=0.0, granted=0.0, ended=90_000.0, completed=True
    ).model_dump_json()
    other = EndedRequestView(
        model="qwen3-coder-30b-a3b-instruct", caller="y", joined=100.0, granted=100.0, ended=101.0, completed=True
    ).model_dump_json()
    done = simulate("--replay", "-", "--policy", "hearth", text=f"{long}\n{other}\n")
    assert "hearth: the drain limit cut off 1 requests." in done.stdout


@pytest.mark.parametrize("policies", [("hearth",), tuple(POLICIES)])
def test_plot_is_a_png_that_grows_with_the_policies(directory: Path, policies: tuple[str, ...]) -> None:
    chosen = [part for name in policies for part in ("--policy", name)]
    done = simulate(*SESSIONS, *chosen, "--plot", "picture.png")
    assert done.exit_code == 0, done.output
    image = (directory / "picture.png").read_bytes()
    assert image.startswith(PNG)
    height = int.from_bytes(image[20:24], "big")
    assert height > 150 * len(policies)


def test_numbers_are_not_lost_with_a_plot_that_cannot_be_written() -> None:
    done = simulate("--json", *SESSIONS, "--plot", "/dev/full")
    assert done.exit_code == 2
    assert [each["policy"] for each in json.loads(done.stdout)] == list(POLICIES)
    assert len(done.stderr.splitlines()) == 1


def test_plot_without_matplotlib_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "matplotlib" else find(name))
    done = simulate(*SESSIONS, "--plot", "picture.png")
    assert done.exit_code == 2
    assert "pip install 'hearth[plot]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


RATE = ("--sessions-per-hour", "4")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--models", "models.yaml"), "one of --sessions-per-hour, --arrivals-per-minute and --replay"),
        ((*SESSIONS, "--replay", "x"), "one of --sessions-per-hour, --arrivals-per-minute and --replay"),
        ((*SESSIONS, "--policy", "running-frist"), "no policy 'running-frist'; did you mean 'running-first'?"),
        ((*SESSIONS, "--policy", "zzz"), "no policy 'zzz'; there are: hearth, running-first, strict-fifo, refuse"),
        ((*SESSIONS, "--plot", "nowhere/a.png"), "nowhere is not a directory"),
        ((*SESSIONS, "--plot", "."), "--plot: . is a directory"),
        (("--models", "models.yaml", *RATE, "--hours", "1e-9"), "Nobody asks for anything in this time"),
        (("--models", "none.yaml", *RATE), "none.yaml: No such file or directory"),
        (("--models", ".", *RATE), ".: Is a directory"),
        (("--config", "none.yaml", *RATE), "none.yaml: there is no such file; name one with --config"),
        (("--config", "bad", *RATE), "bad: general_settings.lifecycle.gpus: Field required"),
        (("--trace", "none.csv", *SESSIONS), "none.csv: No such file or directory"),
        (("--models", "models.yaml", "--replay", "none.jsonl"), "none.jsonl: No such file or directory"),
        (("--models", "models.yaml", "--replay", "bad"), "bad: line 1: Invalid JSON"),
        (("--models", "models.yaml", "--replay", "other.jsonl"), "asks only for models that are not here: gone (3)"),
    ],
)
def test_mistakes_are_one_line_and_code_2(directory: Path, arguments: tuple[str, ...], said: str) -> None:
    (directory / "bad").write_text("model_list: []\n")
    (directory / "other.jsonl").write_text(history(3, "gone"))
    done = simulate(*arguments)
    assert done.exit_code == 2, done.output
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not done.stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", "is not a list of models"),
        ("[]", "is not a list of models"),
        ("[1]", "[0]: is not a mapping with name and load_seconds"),
        ("[{name: a}]", "[0] (a): load_seconds: is missing"),
        ("[{load_seconds: 1}]", "[0]: name: is missing"),
        (
            "[{name: a, load_second: 1}]",
            "[0] (a): load_second: is not a known key; did you mean 'load_seconds'? (and 1",
        ),
        ("[{name: a, load_seconds: 1, gpu: 2}]", "[0] (a): gpu: is not a known key; known: name, load_seconds"),
        ("[{name: a, load_seconds: soon}]", "[0] (a): load_seconds: Input should be a valid number"),
        ("[{name: a, load_seconds: -1}]", "[0] (a): load_seconds: "),
        ("[{name: a, load_seconds: .nan}]", "[0] (a): load_seconds: "),
        ("[{name: a, load_seconds: 1, memory: 1.5}]", "[0] (a): memory: "),
        ("[{name: a, load_seconds: 1, decode_tps: 0}]", "[0] (a): decode_tps: "),
        ("[{name: a, load_seconds: 1}, {name: a, load_seconds: 2}]", "two models are named 'a'"),
        ("[{name: a, load_seconds: 1, share: 0}]", "every share is 0"),
        ("a: [", "is not YAML: line 1: "),
        ("\x00", "is not YAML: "),
    ],
)
def test_models_that_are_not_models_are_told_in_one_line(directory: Path, text: str, said: str) -> None:
    (directory / "wrong.yaml").write_text(text)
    done = simulate("--models", "wrong.yaml", *RATE)
    assert done.exit_code == 2
    assert done.stderr.startswith("wrong.yaml: ")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "has no column ContextTokens and no column GeneratedTokens; its columns: none"),
        (b"ContextTokens,Generated\n1,2\n", "has no column GeneratedTokens; its columns: ContextTokens, Generated"),
        (b"ContextTokens,GeneratedTokens\n", "has no requests"),
        (b"ContextTokens,GeneratedTokens\n5,many\n", "line 2: GeneratedTokens: 'many' is not a number of tokens"),
        (b"ContextTokens,GeneratedTokens\n5,1\n5\n", "line 3: GeneratedTokens: '' is not a number of tokens"),
        (b"ContextTokens,GeneratedTokens\n5," + b"9" * 400 + b"\n", "line 2: GeneratedTokens: '9999"),
        (b"ContextTokens,GeneratedTokens\n5,-1\n", "line 2: GeneratedTokens: '-1' is not a number of tokens"),
        (b"\xff\xfe\x00", "is not CSV"),
    ],
)
def test_traces_that_are_no_traces_are_told_in_one_line(directory: Path, content: bytes, said: str) -> None:
    (directory / "trace.csv").write_bytes(content)
    done = simulate(*SESSIONS, "--trace", "trace.csv")
    assert done.exit_code == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments", [("--hours", "0"), ("--hours", "inf"), ("--steps", "none"), ("--sessions-per-hour", "nan")]
)
def test_numbers_that_make_no_sense_are_wrong_usage(arguments: tuple[str, ...]) -> None:
    assert simulate("--models", "models.yaml", *arguments).exit_code == 2


def test_commands_of_the_documentation_run(directory: Path) -> None:
    """Each line of the page's shell blocks, on a copy of what lies in the repository."""
    copy_configuration(directory)
    shutil.copytree(ROOT / "examples", directory / "examples")
    page = (ROOT / "docs" / "scheduling.md").read_text()
    blocks = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    lines = [line.split(" #")[0].strip() for block in blocks for line in block.splitlines()]
    assert len(lines) >= 5
    for line in lines:
        program, command, *arguments = shlex.split(line)
        assert program == "hearth"
        if command == "history":  # no server runs here: what it would have written
            model = "gpt-oss-120b"
            (directory / arguments[arguments.index(">") + 1]).write_text(history(5, model))
            continue
        assert command == "simulate"
        done = simulate(*arguments)
        assert done.exit_code == 0, f"{line}\n{done.output}"
    assert list(directory.glob("*.png"))
