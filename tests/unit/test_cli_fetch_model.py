"""`hearth fetch MODEL` against a small server that plays Hugging Face."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from check_tree import plant
from fake_hub import COMMIT, FakeHub, Repository
from huggingface_hub import constants, try_to_load_from_cache
from typer.testing import CliRunner, Result

from router.cli.main import app
from router.fetch import weights
from router.fetch.weights import Hub, download, look, wanted

pytestmark = pytest.mark.unit

SHARD = bytes(range(256)) * 400
FILES = {
    "config.json": b'{"architectures": ["LlamaForCausalLM"]}',
    "tokenizer.json": b"{}",
    "model-00001-of-00002.safetensors": SHARD,
    "model-00002-of-00002.safetensors": SHARD[::-1],
    "model.safetensors.index.json": b'{"metadata": {}}',
    "pytorch_model.bin": b"a pickle",
    "original/consolidated.00.pth": b"the same again",
}
LOADED = {name for name in FILES if not name.endswith((".bin", ".pth"))}


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    repositories = {"example/main": Repository(FILES), "example/closed": Repository(FILES, gated=True)}
    with FakeHub(repositories) as fake:
        yield fake


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [*os.environ]:
        if name.startswith(("HEARTH_", "HF_")):
            monkeypatch.delenv(name)


def run(hub: FakeHub, *words: str, token: str | None = None) -> Result:
    environment = {"HF_ENDPOINT": hub.url} | ({"HF_TOKEN": token} if token else {})
    return CliRunner().invoke(app, ["fetch", *words], env=environment, terminal_width=500)


def kept(cache: Path, repository: str = "example/main") -> dict[str, bytes]:
    """What an engine finds there under `main`."""
    found = {name: try_to_load_from_cache(repository, name, cache_dir=cache) for name in FILES}
    return {name: Path(path).read_bytes() for name, path in found.items() if isinstance(path, str)}


def test_a_model_of_the_configuration_is_fetched_where_engines_look(hub: FakeHub, tmp_path: Path) -> None:
    config, cache = plant(tmp_path / "box"), tmp_path / "weights"
    done = run(hub, "main", "--weights", str(cache), "--config", str(config))
    assert done.exit_code == 0, done.output
    assert kept(cache) == {name: FILES[name] for name in LOADED}
    assert (cache / "models--example--main" / "snapshots" / COMMIT / "config.json").exists()
    before = len(hub.asked)
    again = run(hub, "main", "--weights", str(cache), "--config", str(config))
    assert again.exit_code == 0, again.output
    assert "all there" in again.output
    assert not [name for method, name, _ in hub.asked[before:] if method == "GET"]


def test_a_repository_needs_no_configuration(hub: FakeHub, tmp_path: Path) -> None:
    done = run(hub, "example/main", "--weights", str(tmp_path), "--config", "nowhere.yaml")
    assert done.exit_code == 0, done.output
    assert kept(tmp_path).keys() == LOADED


def test_what_describes_it_goes_into_the_engines_own_cache_too(hub: FakeHub, tmp_path: Path) -> None:
    done = run(hub, "example/main", "--weights", str(tmp_path / "w"), "--hub", str(tmp_path / "hub"))
    assert done.exit_code == 0, done.output
    assert kept(tmp_path / "hub").keys() == {"config.json", "tokenizer.json", "model.safetensors.index.json"}


def test_a_connection_that_breaks_goes_on_where_it_was(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 4096)  # what is written at once: 10 MB, more than these files
    broken = "model-00001-of-00002.safetensors"
    hub.breaks[broken] = 40_000
    done = run(hub, "example/main", "--weights", str(tmp_path))
    assert done.exit_code == 0, done.output
    assert kept(tmp_path)[broken] == SHARD
    ranges = [asked for method, name, asked in hub.asked if method == "GET" and name == broken]
    assert ranges[0] == ""
    assert ranges[1].startswith("bytes=")
    assert hub.sent[broken] < len(SHARD) + 4096, "not all of it a second time"


def test_files_that_are_complete_are_kept_for_the_next_run(hub: FakeHub, tmp_path: Path) -> None:
    shard = "model-00002-of-00002.safetensors"
    hub.repositories["example/main"].files = {name: data for name, data in FILES.items() if name != shard}
    assert run(hub, "example/main", "--weights", str(tmp_path)).exit_code == 0
    hub.repositories["example/main"] = Repository(FILES, commit=COMMIT[::-1])
    said = run(hub, "example/main", "--weights", str(tmp_path), "--dry-run")
    assert said.exit_code == 0, said.output
    assert f"to fetch  {shard}" in said.stdout
    hub.asked.clear()
    assert run(hub, "example/main", "--weights", str(tmp_path)).exit_code == 0
    fetched = [name for method, name, _ in hub.asked if method == "GET"]
    assert fetched == [shard], "the others are there, under the commit before"


def test_a_dry_run_fetches_nothing(hub: FakeHub, tmp_path: Path) -> None:
    done = run(hub, "example/main", "--weights", str(tmp_path), "--dry-run")
    assert done.exit_code == 0, done.output
    assert f"{len(SHARD):,}" in done.stdout
    assert "pytorch_model.bin" not in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_gated_models_want_a_token(hub: FakeHub, tmp_path: Path) -> None:
    words = ("example/closed", "--weights", str(tmp_path))
    refused = run(hub, *words)
    assert refused.exit_code == 1
    assert "accept its terms" in refused.output
    assert "HF_TOKEN" in refused.output
    wrong = run(hub, *words, token="hf_wrong")
    assert "the account of HF_TOKEN has no access" in wrong.output
    assert "hf_wrong" not in wrong.output
    done = run(hub, *words, token="hf_right")
    assert done.exit_code == 0, done.output
    assert kept(tmp_path, "example/closed").keys() == LOADED


def test_faults_are_one_line_that_says_what_to_do(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = ("--weights", str(tmp_path / "w"), "--config", str(plant(tmp_path / "box")))
    faults = {
        ("example/nobody",): "private: then set HF_TOKEN",
        ("example/main", "--revision", "v9"): "has no revision 'v9'",
        ("helper",): "set catalogue.weights",
        ("nobody",): "has no model 'nobody'",
    }
    for words, said in faults.items():
        done = run(hub, *words, *where)
        assert done.exit_code == 1, done.output
        assert said in done.output
    free = shutil.disk_usage(tmp_path)._replace(free=weights.MARGIN)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    full = run(hub, "example/main", *where)
    assert full.exit_code == 1
    assert "Nothing was fetched" in full.output
    assert kept(tmp_path / "w") == {}


def test_a_volumes_name_is_wrong_usage(hub: FakeHub) -> None:
    for setting in ([], ["--weights", "weights"]):
        done = run(hub, "example/main", *setting)
        assert done.exit_code == 2
        assert "docker compose run --rm fetch example/main" in done.output


def test_progress_adds_up_to_what_was_missing(hub: FakeHub, tmp_path: Path) -> None:
    hub.breaks["model-00001-of-00002.safetensors"] = 40_000
    came: list[int] = []
    snapshot = look("example/main", "main", tmp_path, Hub(hub.url))
    download(snapshot, tmp_path, Hub(hub.url), came.append)
    assert sum(came) == snapshot.missing == sum(len(FILES[name]) for name in LOADED)
    assert look("example/main", "main", tmp_path, Hub(hub.url)).missing == 0


def test_ctrl_c_ends_it_and_leaves_nothing_half(hub: FakeHub, tmp_path: Path) -> None:
    snapshot = look("example/main", "main", tmp_path, Hub(hub.url))
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        download(snapshot, tmp_path, Hub(hub.url), lambda _: os.kill(os.getpid(), signal.SIGINT))
    assert signal.getsignal(signal.SIGINT) == before
    assert not list(tmp_path.rglob("*.incomplete"))
    assert all(data == FILES[name] for name, data in kept(tmp_path).items())
    assert run(hub, "example/main", "--weights", str(tmp_path)).exit_code == 0
    assert kept(tmp_path).keys() == LOADED


def test_without_safetensors_other_weights_are_taken() -> None:
    assert wanted(["config.json", "pytorch_model.bin", "x.onnx"]) == ["config.json", "pytorch_model.bin"]
    assert wanted(["config.json", "model.gguf"]) == ["config.json", "model.gguf"]
