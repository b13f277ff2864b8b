"""The lifecycle configuration: what is read, and what is said of a file that cannot be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from router.config import Config, load, parse
from router.errors import ConfigError
from router.settings import Role


def entry(name: str = "tiny", **lifecycle: Any) -> dict[str, Any]:
    section = {"container": f"engine-{name}", "memory": "10GiB", **lifecycle}
    return {
        "model_name": name,
        "litellm_params": {"model": f"hosted_vllm/{name}", "api_base": f"http://engine-{name}:8000/v1"},
        "model_info": {"lifecycle": {key: value for key, value in section.items() if value is not None}},
    }


def document(*entries: Any, **settings: Any) -> dict[str, Any]:
    general = {"gpus": {"0": {"memory": "24GiB", "reserve": "2GiB"}}, **settings}
    return {"general_settings": {"lifecycle": general}, "model_list": list(entries)}


def faults(made: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(made)
    return str(caught.value).splitlines()


def test_defaults_are_filled_in_from_the_global_settings() -> None:
    found = parse(document(entry(idle_timeout="5m"), idle_timeout="1h", stop_timeout=7))
    spec = found.models["tiny"]
    assert (spec.idle_timeout, spec.stop_timeout, spec.start_timeout) == (300, 7, 900)
    assert spec.health_url == "http://engine-tiny:8000/health"
    assert (spec.memory, spec.gpus, spec.role, spec.container) == (10 * 2**30, ("0",), Role.NORMAL, "engine-tiny")


def test_models_without_a_lifecycle_are_left_to_litellm() -> None:
    hosted = {"model_name": "hosted", "litellm_params": {"model": "openai/gpt"}, "model_info": {"anything": 1}}
    assert list(parse(document(hosted, {"model_name": "bare"}, entry())).models) == ["tiny"]


@pytest.mark.parametrize(
    ("made", "path", "near"),
    [
        (document(entry(idle_timout="5m")), "model_list[0] (tiny).model_info.lifecycle.idle_timout", "idle_timeout"),
        (document(entry(), idel_timeout=5), "general_settings.lifecycle.idel_timeout", "idle_timeout"),
        (document(gpus={"0": {"memry": 5, "memory": 6}}), "general_settings.lifecycle.gpus.0.memry", "memory"),
        (document(page_cache={"sokcet": "/a"}), "general_settings.lifecycle.page_cache.sokcet", "socket"),
        (document(cooldown={"fist": 1}), "general_settings.lifecycle.cooldown.fist", "first"),
    ],
)
def test_unknown_key_is_named_with_its_path_and_the_nearest_key(made: dict[str, Any], path: str, near: str) -> None:
    assert faults(made) == [f"{path}: is not a known key; did you mean {near!r}?"]


def test_unknown_key_like_no_other_gets_no_suggestion() -> None:
    assert faults(document(entry(xyzzy=1)))[0].endswith("xyzzy: is not a known key")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("memory", "10 Gigs", "is not a size"),
        ("memory", None, "required"),
        ("idle_timeout", "soon", "is not a duration"),
        ("start_timeout", 0, "greater than 0"),
        ("role", "loner", "'normal', 'utility' or 'exclusive'"),
        ("gpu", [], "at least 1 item"),
        ("gpu", "7", "gpu: '7' is not one of general_settings.lifecycle.gpus: 0"),
        ("container", None, "container: is missing"),
        ("health_path", "health", "pattern"),
    ],
)
def test_bad_value_is_explained(key: str, value: Any, said: str) -> None:
    found = faults(document(entry(**{key: value})))
    assert len(found) == 1
    assert found[0].startswith("model_list[0] (tiny).model_info.lifecycle")
    assert said in found[0]


def test_process_runtime_needs_a_command_and_no_container() -> None:
    assert "command: is missing" in faults(document(entry(), runtime="process"))[0]
    found = parse(document(entry(container=None, command=["engine", "--fast"]), runtime="process"))
    assert found.models["tiny"].command == ("engine", "--fast")


def test_a_model_that_never_fits_does_not_keep_the_others_from_being_served() -> None:
    made = document(entry(), entry("huge", memory="22.5GiB"))
    found = parse(made)
    said = "model_list[1] (huge).model_info.lifecycle.memory: 22.5 GiB never fits GPU 0, which has 22.0 GiB for models"
    assert (found.models.keys(), found.oversized) == ({"tiny"}, {"huge": said})
    assert found.cards["huge"].too_large == "22.5 GiB never fits GPU 0, which has 22.0 GiB for models"
    assert found.cards["tiny"].too_large == ""
    assert found.unserved["huge"].memory > 22 * 2**30
    assert said in faults(document(entry(role="loner"), entry("huge", memory="22.5GiB")))  # told with the other faults


def test_memory_of_every_gpu_counts() -> None:
    gpus = {"big": {"memory": "80GiB"}, "small": {"memory": "8GiB"}}
    assert parse(document(entry(gpu="big"), gpus=gpus)).models["tiny"].gpus == ("big",)
    assert "never fits GPU small" in parse(document(entry(gpu=["big", "small"]), gpus=gpus)).oversized["tiny"]


def test_gpu_names_may_be_bare_numbers() -> None:
    found = parse(document(entry(gpu=1), gpus={0: {"memory": "8GiB"}, 1: {"memory": "16GiB"}}))
    assert list(found.settings.gpus) == ["0", "1"]
    assert found.models["tiny"].gpus == ("1",)


@pytest.mark.parametrize(
    ("written", "read"), [("off", "off"), ("content", "content"), ("reasoning", "reasoning"), (None, "off")]
)
def test_loading_messages_are_off_unless_the_file_says_otherwise(
    tmp_path: Path, written: str | None, read: str
) -> None:
    text = yaml.safe_dump(document(entry()))
    path = tmp_path / "models.yaml"
    path.write_text(
        text.replace("lifecycle:\n", f"lifecycle:\n    loading_messages: {written}\n", 1) if written else text
    )
    assert load(path).settings.loading_messages == read


@pytest.mark.parametrize(("written", "read"), [(False, "off"), ("off", "off"), ("meminfo", "meminfo")])
def test_measure_may_be_a_bare_off_which_yaml_reads_as_false(written: Any, read: str) -> None:
    found = parse(document(gpus={"0": {"memory": "24GiB", "measure": written, "nvml_device": 1}}))
    assert (found.settings.gpus["0"].measure, found.settings.gpus["0"].nvml_device) == (read, "1")


@pytest.mark.parametrize(("measure", "longest"), [("off", 10.0), ("auto", 30.0)])
def test_longest_unload_includes_the_wait_for_measured_memory(measure: str, longest: float) -> None:
    gpus = {"0": {"memory": "24GiB", "measure": measure}}
    assert parse(document(entry(stop_timeout=10), gpus=gpus, memory_timeout=20)).models["tiny"].unload_limit == longest


@pytest.mark.parametrize(("key", "value"), [("measure", True), ("measure", "nvidia"), ("nvml_device", 1.5)])
def test_way_of_measuring_is_checked(key: str, value: Any) -> None:
    (fault,) = faults(document(gpus={"0": {"memory": "24GiB", key: value}}))
    assert fault.startswith(f"general_settings.lifecycle.gpus.0.{key}: ")


@pytest.mark.parametrize("reserve", ["24GiB", "25GiB"])
def test_reserve_must_leave_room(reserve: str) -> None:
    assert "reserve is not smaller" in faults(document(gpus={"0": {"memory": "24GiB", "reserve": reserve}}))[0]


def test_duplicates_are_found() -> None:
    first, same_name, same_container = entry("a"), entry("a"), entry("b", container="engine-a")
    found = faults(document(first, same_name, same_container))
    assert any("a second entry named 'a' has a lifecycle" in line for line in found)
    found = faults(document(first, same_container))
    assert found == ["models 'a' and 'b' have the same container engine-a"]
    second = entry("b")
    second["litellm_params"] = first["litellm_params"]
    assert faults(document(first, second)) == ["models 'a' and 'b' have the same address http://engine-a:8000/health"]


@pytest.mark.parametrize("address", [None, "", "os.environ/HEARTH_TEST_NOT_SET"])
def test_address_is_needed(address: str | None) -> None:
    made = entry()
    made["litellm_params"]["api_base"] = address
    assert "api_base: is missing" in faults(document(made))[0]


@pytest.mark.parametrize("address", [
    "engine:8000", "ftp://engine/", "http://", "http://engine:$PORT/v1", "http://engine:99999/v1", "http://engine:0/v1",
    "http://[::1/v1", "http://my engine:8000/v1", "http://engine:8000/v1\n",
])  # fmt: skip
def test_address_is_one(address: str) -> None:
    made = entry()
    made["litellm_params"]["api_base"] = address
    (fault,) = faults(document(made))
    assert f"api_base: {address!r} is no address; write the engine's" in fault


def test_address_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEARTH_TEST_ADDRESS", "https://[::1]:9/v1")
    made = entry(health_path="/ping")
    made["litellm_params"]["api_base"] = "os.environ/HEARTH_TEST_ADDRESS"
    assert parse(document(made)).models["tiny"].health_url == "https://[::1]:9/ping"


def test_all_faults_are_reported_at_once() -> None:
    several = entry("c", gpu=["7", "8"], container=None)
    several["litellm_params"] = {}
    made = document(entry("a", memory="x", role="y"), {"model_name": "b", "model_info": 5}, several, "nonsense")
    made["general_settings"]["lifecycle"]["max_wait"] = -1
    found = "\n".join(faults(made))
    for said in ("max_wait", "(a).model_info.lifecycle.memory", "(a).model_info.lifecycle.role",
                 "model_list[1] (b).model_info: is not a mapping", "model_list[3]: is not a mapping"):  # fmt: skip
        assert said in found
    del made["general_settings"]["lifecycle"]["max_wait"]
    found = "\n".join(faults(made))
    for said in ("'7' is not", "'8' is not", "container: is missing", "api_base: is missing"):
        assert said in found


@pytest.mark.parametrize("made", [{}, {"general_settings": None}, {"general_settings": {"lifecycle": None}}])
def test_settings_are_needed(made: dict[str, Any]) -> None:
    assert faults(made) == ["general_settings.lifecycle.gpus: Field required"]


@pytest.mark.parametrize("part", ["general_settings", "model_list"])
def test_wrong_kind_of_part_is_a_fault_and_not_a_crash(part: str) -> None:
    made = document(entry()) | {part: "text"}
    assert any(line.startswith(f"{part}: is not a ") for line in faults(made))


def test_entry_without_a_name_is_a_fault() -> None:
    made = entry()
    del made["model_name"]
    assert "model_name: is missing" in faults(document(made))[0]


# --- models to keep warm

BOX = {"gpus": {"0": {"memory": "24GiB"}, "1": {"memory": "24GiB"}}}
MORNING = {"model": "a", "cron": "0 7 * * mon-fri", "for": "10h"}


def test_models_to_keep_warm() -> None:
    schedules = [MORNING | {"timezone": "Europe/Vienna"}, MORNING]
    made = document(entry("a"), entry("b"), preload=["b"], default_model="a", default_after="1h", schedules=schedules)
    found = parse(made).settings
    assert (found.preload, found.default_model, found.default_after) == (["b"], "a", 3600)
    first, second = found.schedules
    assert (first.model, first.cron, first.duration, first.timezone) == (
        "a",
        "0 7 * * mon-fri",
        36_000,
        "Europe/Vienna",
    )
    assert second.timezone == "UTC"


@pytest.mark.parametrize(
    ("warm", "said"),
    [
        ({"preload": ["b", "aa"]}, "preload.1: 'aa' is not a model with a lifecycle; did you mean 'a'?"),
        ({"default_model": "xyzzy"}, "default_model: 'xyzzy' is not a model with a lifecycle"),
        ({"default_model": "small"}, "default_model: 'small' is a utility, which is kept running anyway; leave it out"),
        ({"schedules": [MORNING | {"model": "c"}]}, "schedules.0.model: 'c' is disabled: too slow"),
        ({"preload": ["never"]}, "preload.0: 'never' is too large for its GPU"),
        ({"schedules": [MORNING | {"model": "never"}]}, "schedules.0.model: 'never' is too large for its GPU"),
        ({"schedules": [MORNING | {"cron": "0 25 * * *"}]}, "schedules.0.cron: '0 25 * * *' cannot be used"),
        ({"schedules": [MORNING | {"timezone": "Vienna"}]}, "schedules.0.timezone: 'Vienna' is not a time zone known"),
        ({"schedules": [MORNING | {"for": 0}]}, "schedules.0.for: Input should be greater than 0"),
        ({"schedules": [{"model": "a", "cron": "@daily"}]}, "schedules.0.for: Field required"),
        ({"schedules": [MORNING | {"form": "1h"}]}, "schedules.0.form: is not a known key; did you mean 'for'?"),
        ({"preload": ["a", "big"]}, "preload: they can never all be warm: GPU 0 has 24.0 GiB for models, and there are "
                                    "a (10.0 GiB), big (16.0 GiB)"),
        ({"preload": ["a"], "default_model": "big"}, "preload and default_model: they can never all be warm: GPU 0"),
        ({"preload": ["a", "alone"]}, "they can never all be warm: alone is exclusive"),
        ({"preload": ["huge"]}, "preload: it can never be warm beside the utility models: GPU 0 has 24.0 GiB"),
        ({"preload": ["alone"]}, "preload: it can never be warm beside the utility models: alone is exclusive"),
    ],
)  # fmt: skip
def test_what_can_never_be_warm_is_told(warm: dict[str, Any], said: str) -> None:
    disabled = entry("c")
    disabled["model_info"]["catalogue"] = {"disabled": "too slow"}
    models = [entry("a"), entry("b"), disabled, entry("big", memory="16GiB"), entry("alone", role="exclusive"),
              entry("huge", memory="23GiB"), entry("small", memory="2GiB", role="utility"),
              entry("never", memory="240GiB")]  # fmt: skip
    found = [fault for fault in faults(document(*models, **BOX, **warm)) if "never fits" not in fault]
    assert len(found) == 1
    assert found[0].startswith("general_settings.lifecycle.")
    assert said in found[0]


@pytest.mark.parametrize(
    "warm",
    [
        {"preload": ["a", "b"]},
        {"preload": ["a", "a"], "default_model": "a"},
        {"preload": ["a", "other"], "default_model": "b"},
        {"default_model": "alone"},
        {"preload": ["a"], "schedules": [MORNING | {"model": "alone"}, MORNING | {"model": "big"}]},
    ],
    ids=["fit", "named twice", "on two GPUs", "exclusive default: the utility leaves for it", "at other times"],
)
def test_what_can_be_warm_is_taken(warm: dict[str, Any]) -> None:
    models = [entry("a"), entry("b"), entry("big", memory="16GiB"), entry("alone", role="exclusive"),
              entry("other", gpu="1", memory="23GiB"), entry("small", memory="2GiB", role="utility")]  # fmt: skip
    assert parse(document(*models, **BOX, **warm))


# --- files


MAIN = """
include: [more.yaml, sub/other.yaml]
general_settings:
  lifecycle: {gpus: {"0": {memory: 24GiB}}}
model_list:
  - {model_name: a, litellm_params: {api_base: "http://a:1"}, model_info: {lifecycle: {container: a, memory: 1GiB}}}
"""
MORE = """
model_list:
  - {model_name: b, litellm_params: {api_base: "http://b:1"}, model_info: {lifecycle: {container: b, memory: 1GiB}}}
litellm_settings: {drop_params: true}
"""


def write(directory: Path, **files: str) -> Path:
    for name, text in files.items():
        path = directory / f"{name.replace('__', '/')}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return directory / "main.yaml"


def test_includes_are_merged_as_litellm_does(tmp_path: Path) -> None:
    found: Config = load(write(tmp_path, main=MAIN, more=MORE, sub__other="include: [deep.yaml]",
                               sub__deep=MORE.replace("b,", "c,").replace("//b", "//c")))  # fmt: skip
    assert list(found.models) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"main": "a: ["}, "main.yaml: is not YAML"),
        ({"main": "- a"}, "main.yaml: is not a mapping"),
        ({"main": "include: more.yaml"}, "include: is a list"),
        ({"main": "include: [nowhere.yaml]"}, "nowhere.yaml: cannot be read"),
        ({"main": "include: [more.yaml]", "more": "include: [main.yaml]"}, "main.yaml: includes itself"),
        ({"more": ""}, "main.yaml: cannot be read"),
        ({"main": ""}, "gpus: Field required"),
    ],
)
def test_file_that_cannot_be_used_is_named(tmp_path: Path, files: dict[str, str], said: str) -> None:
    path = write(tmp_path, **files)
    with pytest.raises(ConfigError, match=said.replace("[", r"\[")):
        load(path)


def described(name: str = "tiny", **catalogue: Any) -> dict[str, Any]:
    made = entry(name)
    made["model_info"] |= {"max_input_tokens": 4096, "supports_vision": True, "catalogue": catalogue}
    return made


def test_a_disabled_model_is_kept_with_its_reason_and_nothing_else() -> None:
    found = parse(
        document(described("old", disabled="it is gone"), described("new", family="tests", experimental=False))
    )
    assert found.disabled == {"old": "it is gone"}
    assert list(found.models) == list(found.rules) == ["new"]
    assert {name: card.catalogue.status.value for name, card in found.cards.items()} == {
        "old": "disabled",
        "new": "proven",
    }


def test_a_card_has_what_litellms_own_keys_say() -> None:
    made = described()
    made["model_info"] |= {"max_output_tokens": "many", "supports_function_calling": "yes", "supports_reasoning": False}
    card = parse(document(made)).cards["tiny"]
    assert (card.context, card.output, card.tools, card.vision, card.reasoning) == (4096, None, None, True, False)
    assert parse(document(entry())).cards["tiny"].catalogue.family == ""


@pytest.mark.parametrize(
    ("catalogue", "said"),
    [
        ({"famly": "x"}, "famly: is not a known key; did you mean 'family'?"),
        ({"good_for": ["everything"]}, "good_for.0: Input should be 'chat'"),
        ({"disabled": ""}, "disabled: String should have at least 1 character"),
        ({"weights": "no repository"}, "weights: String should match pattern"),
        ({"known_problems": [{"client": "x", "problem": "y"}]}, "known_problems.0.instead: Field required"),
        ({"client_limits": {"context": 0, "output": 1}}, "client_limits.context: Input should be greater"),
    ],
)
def test_a_catalogue_that_makes_no_sense_is_named(catalogue: dict[str, Any], said: str) -> None:
    (fault,) = faults(document(described(**catalogue)))
    assert fault.startswith(f"model_list[0] (tiny).model_info.catalogue.{said}")


def test_only_a_model_with_a_lifecycle_can_be_disabled() -> None:
    hosted = {"model_name": "hosted", "model_info": {"catalogue": {"disabled": "it is dear"}}}
    assert "is for models with a lifecycle" in faults(document(hosted))[0]


def test_a_disabled_model_is_checked_like_the_others() -> None:
    made = described("old", disabled="it is gone")
    made["model_info"]["lifecycle"]["memory"] = "500GiB"
    assert "never fits" in parse(document(made)).oversized["old"]
    twin = described("old", disabled="it is gone")
    twin["model_info"]["lifecycle"]["container"] = "engine-tiny"
    assert "the same container" in faults(document(entry(), twin))[0]


def test_shipped_configuration_is_right() -> None:
    assert load(Path(__file__).parents[2] / "litellm_config.yaml").models
