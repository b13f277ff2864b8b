"""`hearth fetch`, with the real encodings: LiteLLM's package carries copies of both."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterator
from functools import partial
from hashlib import sha1
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import tiktoken_ext.openai_public
import typer
from typer.testing import CliRunner, Result

from router.cli.fetch import FetchGroup
from router.cli.main import app
from router.fetch import tokenizers


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def encodings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the published files under their own names."""
    directory = tmp_path_factory.mktemp("published")
    spec = importlib.util.find_spec("litellm")
    assert spec is not None
    assert spec.origin is not None
    copies = Path(spec.origin).parent / "litellm_core_utils" / "tokenizers"
    for file in tokenizers.encodings():
        copy = copies / sha1(file.url.encode()).hexdigest()  # how tiktoken names what it keeps
        (directory / file.name).write_bytes(copy.read_bytes())
    return directory


@pytest.fixture
def publisher(encodings: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=str(encodings))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEARTH_WEIGHTS", "HEARTH_TOKENIZERS_FROM"):
        monkeypatch.delenv(name, raising=False)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["fetch", *arguments], terminal_width=500)


@pytest.mark.parametrize("file", tokenizers.encodings(), ids=lambda file: file.name)
def test_address_and_checksum_are_those_of_tiktoken(file: tokenizers.PublishedFile) -> None:
    source = Path(tiktoken_ext.openai_public.__file__).read_text(encoding="utf-8")
    assert f'"{file.url}",\n        expected_hash="{file.sha256}"' in source


def test_the_encodings_are_fetched_below_the_weights(publisher: str, encodings: Path, tmp_path: Path) -> None:
    done = run("tokenizers", "--weights", str(tmp_path), "--from", publisher)
    assert done.exit_code == 0, done.output
    there = {path.name: path.read_bytes() for path in (tmp_path / "tiktoken_encodings").iterdir()}
    assert there == {path.name: path.read_bytes() for path in encodings.iterdir()}
    assert "o200k_base.tiktoken: fetched, checksum right" in done.output
    again = run("tokenizers", "--weights", str(tmp_path), "--from", "http://127.0.0.1:9/nobody")
    assert again.exit_code == 0, again.output
    assert again.output.count("already there") == 2


def test_directory_says_exactly_where(publisher: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEARTH_TOKENIZERS_FROM", publisher)
    monkeypatch.setenv("HEARTH_WEIGHTS", str(tmp_path / "not-here"))
    assert run("tokenizers", "--directory", str(tmp_path / "here")).exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_weights_may_come_from_the_setting(publisher: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEARTH_WEIGHTS", str(tmp_path))
    assert run("tokenizers", "--from", publisher).exit_code == 0
    assert len(list((tmp_path / tokenizers.DIRECTORY).iterdir())) == 2


def test_a_file_that_cannot_be_had_is_exit_code_1(publisher: str, tmp_path: Path) -> None:
    done = run("tokenizers", "--directory", str(tmp_path), "--from", f"{publisher}nowhere")
    assert done.exit_code == 1
    assert "answered 404" in done.output
    assert list(tmp_path.iterdir()) == []


def test_a_volumes_name_is_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in ("", "weights"):
        monkeypatch.setenv("HEARTH_WEIGHTS", setting)
        done = run("tokenizers")
        assert done.exit_code == 2
        assert "--directory" in done.output


def test_another_word_is_wrong_usage() -> None:
    assert run("tokeniser").exit_code == 2


def test_another_word_is_a_models_name_where_models_can_be_fetched() -> None:
    asked: list[str] = []
    group = typer.Typer(cls=FetchGroup)

    @group.command()
    def tokenizers() -> None:
        asked.append("the tokenizers")

    @group.command()
    def model(name: str) -> None:
        asked.append(name)

    for words in (["gpt-oss-20b"], ["tokenizers"], ["model", "tokenizers"]):
        assert CliRunner().invoke(group, words).exit_code == 0
    assert asked == ["gpt-oss-20b", "the tokenizers", "tokenizers"]
