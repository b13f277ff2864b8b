"""New models as text: what is there stays, and what is added reads as what was meant."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from router.adding.entry import Addition, container_of, entry_lines, name_of, service_lines, with_block

pytestmark = pytest.mark.unit

PLAIN = Addition(name="m", container="vllm-m", base="avarok", profile="models", command=("serve", "a/b"), port="8000",
                 context=8192, memory=20)  # fmt: skip


def parsed(key: str, lines: list[str]) -> Any:
    return yaml.safe_load("\n".join([f"{key}:", *lines]))[key]


def test_text_is_added_at_the_end_of_its_block_and_nothing_else_changes() -> None:
    text = "# mine\nservices:\n  one: {}  # kept\n\n# about volumes\nvolumes:\n  a:\n"
    added = with_block(text, "services", ["  two: {}"], apart=True)
    assert added == "# mine\nservices:\n  one: {}  # kept\n\n  two: {}\n\n# about volumes\nvolumes:\n  a:\n"
    assert with_block(added, "volumes", ["  b:"]).endswith("volumes:\n  a:\n  b:\n")
    assert with_block("a: 1\n", "include", ["  - x"]) == "a: 1\n\ninclude:\n  - x\n"
    assert with_block("include: []\n", "include", ["  - x"]) == "include:\n  - x\n"
    assert with_block("include:\n- a\nb: 1\n", "include", ["- x"]) == "include:\n- a\n- x\nb: 1\n"


def test_a_block_in_one_line_is_left_alone() -> None:
    with pytest.raises(ValueError, match="lines of their own"):
        with_block("include: [a.yml]\n", "include", ["  - b.yml"])


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1), min_size=1))
def test_any_word_of_a_command_arrives_as_it_is(words: list[str]) -> None:
    service = parsed("services", service_lines(Addition(**{**as_fields(PLAIN), "command": tuple(words)})))["vllm-m"]
    assert [word.replace("$$", "$") for word in service["command"]] == words
    assert all("$" not in word.replace("$$", "") for word in service["command"])


def as_fields(addition: Addition) -> dict[str, Any]:
    return {name: getattr(addition, name) for name in addition.__dataclass_fields__}


def test_a_service_with_an_image_of_its_own() -> None:
    fields = as_fields(PLAIN) | {"image": "own/vllm:1@sha256:ab", "entrypoint": (), "cache": "cache-own",
                                 "environment": (("HF_TOKEN", "${HF_TOKEN:-}"),),
                                 "binds": ("/srv/hub:/hub:ro",)}  # fmt: skip
    service = parsed("services", service_lines(Addition(**fields)))["vllm-m"]
    assert service["image"] == "own/vllm:1@sha256:ab"
    assert service["entrypoint"] == []
    assert service["volumes"] == ["cache-own:/cache", "/srv/hub:/hub:ro"]
    assert service["environment"] == {"HF_TOKEN": "${HF_TOKEN:-}"}


def test_an_entry_says_what_the_model_can_and_cannot() -> None:
    (entry,) = parsed("model_list", entry_lines(PLAIN))
    info = entry["model_info"]
    assert entry["litellm_params"] == {"model": "hosted_vllm/m", "api_base": "http://vllm-m:8000/v1"}
    assert (info["max_input_tokens"], info["max_output_tokens"]) == (8192, 2048)
    assert info["request_rules"] == {"images": "refuse", "tools": "strip"}
    assert info["lifecycle"] == {"container": "vllm-m", "memory": "20GiB"}
    able = Addition(**as_fields(PLAIN) | {"tools": True, "vision": True, "gpu": "1", "weights": "a/b"})
    (entry,) = parsed("model_list", entry_lines(able))
    assert "request_rules" not in entry["model_info"]
    assert entry["model_info"]["lifecycle"]["gpu"] == "1"
    assert entry["model_info"]["catalogue"]["weights"] == "a/b"


@pytest.mark.parametrize(
    ("source", "name", "container"),
    [
        ("Org/Some_Model-7B-Instruct", "some_model-7b-instruct", "vllm-some-model-7b-instruct"),
        ("/models/tiny/", "tiny", "vllm-tiny"),
        ("org/Gemma 3 (it)", "gemma-3-it", "vllm-gemma-3-it"),
    ],
)
def test_names_come_from_the_weights(source: str, name: str, container: str) -> None:
    assert name_of(source) == name
    assert container_of(name) == container
