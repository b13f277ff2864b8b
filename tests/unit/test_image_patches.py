"""The patches of the engine images, each against a small source that has its place, and what they do."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

IMAGES = Path(__file__).parents[2] / "custom-docker-containers"
sys.path.insert(0, str(IMAGES))

from patches.patching import Change, Patch, PatchError, apply, patched  # noqa: E402 - found by the line above

NAMES = sorted(
    path.stem for path in (IMAGES / "patches").glob("*.py") if path.stem not in ("patching", "__init__", "__main__")
)

#: What stands around the place of a change, so that the whole is Python. The others' places are statements as they are.
AROUND: dict[str, tuple[str, str]] = {
    "vllm_shard_order": (
        "def fastsafetensors_weights_iterator(hf_weights_files, pg):\n",
        "        for i in range(0, len(hf_weights_files), pg.size())\n    ]\n    return weight_files_sub_lists\n",
    ),
    "vllm_mla_splits": ("def forward_mqa(envs, attn_metadata):\n    if True:\n", "        return num_kv_splits\n"),
    "vllm_autoround_gate": (
        "def gate(quant_config, prefix, ReplicatedLinear):\n    if True:\n        return ReplicatedLinear(\n",
        "        )\n",
    ),
    "triton_allocator": ("def allocate(size):\n    if True:\n", ""),
    "transformers_rope_keys": ("class Mixin:\n    def convert(self):\n        if True:\n", ""),
}


def patch_of(name: str) -> Patch:
    found: Patch = importlib.import_module(f"patches.{name}").PATCH
    return found


def source_of(name: str, times: int = 1) -> str:
    """A source in which each change finds its place `times` times."""
    before, after = AROUND.get(name, ("", ""))
    if times != 1 and name in AROUND:  # the whole of it again: still Python
        return "\n".join([source_of(name)] * times)
    return "before\n" * (name not in AROUND) + "".join(
        before + change.before * times + after for change in patch_of(name).changes
    )


def write(root: Path, patch: Patch, text: str) -> Path:
    path = root / patch.file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def run(root: Path, *names: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "patches", str(root), *names]
    return subprocess.run(command, cwd=IMAGES, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize("name", NAMES)
class TestEachPatch:
    def test_it_is_made(self, name: str, tmp_path: Path) -> None:
        patch = patch_of(name)
        path = write(tmp_path, patch, source_of(name))
        path.chmod(0o755)
        apply(patch, tmp_path)
        text = path.read_text(encoding="utf-8")
        for change in patch.changes:
            assert text.count(change.after) == 1
        assert path.stat().st_mode & 0o777 == 0o755
        assert [left.name for left in path.parent.iterdir()] == [path.name]

    def test_without_its_place_nothing_is_written(self, name: str, tmp_path: Path) -> None:
        patch = patch_of(name)
        for missing in range(len(patch.changes)):
            text = source_of(name).replace(patch.changes[missing].before, "    pass\n")
            path = write(tmp_path, patch, text)
            with pytest.raises(PatchError, match="found 0 times instead of once"):
                apply(patch, tmp_path)
            assert path.read_text(encoding="utf-8") == text

    def test_with_its_place_twice_nothing_is_written(self, name: str, tmp_path: Path) -> None:
        patch = patch_of(name)
        text = source_of(name, times=2)
        path = write(tmp_path, patch, text)
        with pytest.raises(PatchError, match="found 2 times instead of once"):
            apply(patch, tmp_path)
        assert path.read_text(encoding="utf-8") == text

    def test_a_second_time_is_an_error(self, name: str, tmp_path: Path) -> None:
        patch = patch_of(name)
        path = write(tmp_path, patch, source_of(name))
        apply(patch, tmp_path)
        once = path.read_text(encoding="utf-8")
        with pytest.raises(PatchError, match="it was made already"):
            apply(patch, tmp_path)
        assert path.read_text(encoding="utf-8") == once

    def test_without_its_file_it_is_an_error(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(PatchError, match="cannot be read"):
            apply(patch_of(name), tmp_path)

    def test_it_says_of_itself_that_it_is_ours(self, name: str) -> None:
        for change in patch_of(name).changes:
            assert "Hearth: " in change.after
            assert "Hearth: " not in change.before


def test_what_would_no_longer_be_python_is_not_written(tmp_path: Path) -> None:
    patch = Patch("engine.py", (Change("a = 1\n", "a = (\n"),))
    path = write(tmp_path, patch, "a = 1\n")
    with pytest.raises(PatchError, match="no longer be Python"):
        apply(patch, tmp_path)
    assert path.read_text(encoding="utf-8") == "a = 1\n"


def test_a_change_that_undoes_another_is_noticed(tmp_path: Path) -> None:
    patch = Patch("file", (Change("one", "two"), Change("two", "three")))
    write(tmp_path, patch, "one")
    with pytest.raises(PatchError, match="change 1 is not there"):
        apply(patch, tmp_path)


def test_the_command_makes_all_that_it_names_in_one_argument_or_more(tmp_path: Path) -> None:
    names = ["triton_allocator", "transformers_rope_keys"]
    for arguments in (names, [" ".join(names)]):
        for name in names:
            write(tmp_path, patch_of(name), source_of(name))
        done = run(tmp_path, *arguments)
        assert done.returncode == 0, done.stderr
        assert [line.split(":")[0] for line in done.stdout.splitlines()] == [f"patch {name}" for name in names]


def test_the_command_with_no_names_in_its_argument_makes_nothing(tmp_path: Path) -> None:
    assert run(tmp_path, "").returncode == 0


def test_the_command_fails_with_the_first_patch_that_does(tmp_path: Path) -> None:
    write(tmp_path, patch_of("triton_allocator"), source_of("triton_allocator"))
    done = run(tmp_path, "triton_allocator", "vllm_mla_splits", "no_such_patch")
    assert done.returncode == 1
    assert "patch vllm_mla_splits: " in done.stderr
    assert "no_such_patch" not in done.stderr


@pytest.mark.parametrize("arguments", [[], ["no_such_patch"]])
def test_the_command_used_wrongly(tmp_path: Path, arguments: list[str]) -> None:
    assert run(tmp_path, *arguments).returncode == 2


def function(name: str) -> Any:
    """The function of a patched stand-in."""
    scope: dict[str, Any] = {}
    text = patched(source_of(name), patch_of(name))
    exec(text, scope)
    (defined,) = [node.name for node in ast.parse(text).body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    return scope[defined]


def test_shards_come_by_number() -> None:
    files = [f"/models/m/model-{number}-of-11.safetensors" for number in (10, 9, 1, 11, 2)]
    parts = function("vllm_shard_order")(files, SimpleNamespace(size=lambda: 2))
    assert [name.split("-")[1] for part in parts for name in part] == ["1", "2", "9", "10", "11"]
    assert [len(part) for part in parts] == [2, 2, 1]


def test_shards_of_names_without_numbers() -> None:
    files = ["model-2.safetensors", "consolidated.safetensors", "2.safetensors", "model.safetensors"]
    (parts,) = function("vllm_shard_order")(files, SimpleNamespace(size=lambda: 9))
    assert parts == ["consolidated.safetensors", "model-2.safetensors", "model.safetensors", "2.safetensors"]


@pytest.mark.parametrize(("longest", "splits"), [(1, 32), (48_000, 32), (60_000, 40), (192_000, 128), (10**6, 128)])
def test_splits_follow_the_longest_sequence(longest: int, splits: int) -> None:
    forward = function("vllm_mla_splits")
    assert forward(SimpleNamespace(VLLM_BATCH_INVARIANT=False), SimpleNamespace(max_seq_len=longest)) == splits
    assert forward(SimpleNamespace(VLLM_BATCH_INVARIANT=True), SimpleNamespace(max_seq_len=longest)) == 1


def test_only_autorounds_settings_reach_the_gate() -> None:
    gate = function("vllm_autoround_gate")
    settings = {method: SimpleNamespace(get_name=lambda method=method: method) for method in ("inc", "fp8")}
    given = {method: gate(own, "layer", lambda **arguments: arguments) for method, own in settings.items()}
    assert given["inc"] == {"quant_config": settings["inc"], "prefix": "layer.gate"}
    assert given["fp8"]["quant_config"] is None
    assert gate(None, "layer", lambda **arguments: arguments)["quant_config"] is None


def test_keys_may_be_a_list() -> None:
    mixin = function("transformers_rope_keys")()
    mixin.ignore_keys_at_rope_validation = ["mrope_section"]
    mixin.convert()
    assert mixin.ignore_keys_at_rope_validation == {"mrope_section", "partial_rotary_factor"}


def test_scratch_memory_is_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = SimpleNamespace(int8="int8", empty=lambda size, dtype, device: (size, dtype, device))
    monkeypatch.setitem(sys.modules, "torch", torch)
    assert function("triton_allocator")(4096) == (4096, "int8", "cuda")
