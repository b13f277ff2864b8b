"""The models that are shipped: each is a hardened service, and an entry for LiteLLM that agrees with it."""

from __future__ import annotations

from typing import Any, get_args
from urllib.parse import urlsplit

import pytest
import yaml
from composition import ROOT, Composition, reason_without_compose

from plugins.request_rules import thinking
from plugins.request_rules.request import Request, Shape
from router.catalogue import Status, Task
from router.config import Config, load, read_yaml
from router.request_rules import Effort
from router.settings import Role

pytestmark = pytest.mark.compose

Service = dict[str, Any]
CONFIG = ROOT / "litellm_config.yaml"
PROFILES = {"models", "models-built", "models-disabled"}
#: What an engine would write prompts, answers or their tokens with.
LOGS_PROMPTS = (
    "--enable-log-requests",
    "--enable-log-outputs",
    "--log-requests",
    "--crash-dump-folder",
    "--dump-requests",
)


@pytest.fixture(scope="module")
def engines() -> dict[str, Service]:
    """The services of models by container, with variables and defaults filled in."""
    if reason := reason_without_compose():
        pytest.skip(reason)
    services = Composition().config()["services"]
    models = [service for service in services.values() if PROFILES & set(service.get("profiles", []))]
    return {service["container_name"]: service for service in models}


@pytest.fixture(scope="module")
def entries() -> dict[str, dict[str, Any]]:
    """The entries of LiteLLM's model list, by name."""
    listed = read_yaml(CONFIG)["model_list"]
    found = {entry["model_name"]: entry for entry in listed}
    assert len(found) == len(listed)
    return found


@pytest.fixture(scope="module")
def config() -> Config:
    return load(CONFIG)


def option(service: Service, name: str) -> str | None:
    """The value of `--name=value` in a service's command."""
    for word in service["command"]:
        if word.startswith(f"--{name}="):
            return str(word.partition("=")[2])
    return None


def container_of(entry: dict[str, Any]) -> str:
    return str(entry["model_info"]["lifecycle"]["container"])


def test_all_are_there_and_34_are_served(engines: dict[str, Service], config: Config) -> None:
    assert len(config.cards) == len(engines) == 53
    assert len(config.models) == 34
    assert config.models.keys() | config.disabled.keys() == config.cards.keys()


def test_every_service_has_an_entry_and_every_entry_a_service(
    engines: dict[str, Service], entries: dict[str, dict[str, Any]]
) -> None:
    containers = [container_of(entry) for entry in entries.values()]
    assert sorted(containers) == sorted(engines)
    assert len(set(containers)) == len(containers)


def test_the_profile_says_whether_the_model_is_served_and_its_image_pulled(
    engines: dict[str, Service], entries: dict[str, dict[str, Any]], config: Config
) -> None:
    for name, entry in entries.items():
        service = engines[container_of(entry)]
        pulled = service.get("pull_policy") != "never"
        served = ["models"] if pulled else ["models-built"]
        assert service["profiles"] == (["models-disabled"] if name in config.disabled else served), name


def test_the_profile_models_alone_is_complete() -> None:
    """`create` with it makes every container that it names, and needs no image that is built."""
    if reason := reason_without_compose():
        pytest.skip(reason)
    done = Composition().run("--profile", "models", "config", "--images")
    images = set(done.stdout.split())
    assert any(image.startswith("avarok/") for image in images)
    assert not [image for image in images if image.startswith(("vllm-node", "local/"))]


def test_service_and_entry_agree(
    engines: dict[str, Service], entries: dict[str, dict[str, Any]], config: Config
) -> None:
    whole = config.settings.gpus["0"].memory
    for name, entry in entries.items():
        container = container_of(entry)
        service, info = engines[container], entry["model_info"]
        provider, _, served = entry["litellm_params"]["model"].partition("/")
        address = urlsplit(entry["litellm_params"]["api_base"])
        assert provider == "hosted_vllm"
        assert option(service, "served-model-name") == served == name
        assert (address.hostname, str(address.port), address.path) == (container, option(service, "port"), "/v1"), name
        assert (option(service, "host"), option(service, "port")) == ("0.0.0.0", "8000"), name
        longest = option(service, "max-model-len") or option(service, "context-length")
        assert longest == str(info["max_input_tokens"]), name
        assert 0 < info["max_output_tokens"] < info["max_input_tokens"], name
        share = option(service, "gpu-memory-utilization") or option(service, "mem-fraction-static")
        assert share is not None, name
        if name in config.models:
            claimed = config.models[name].memory
            assert 0 <= claimed - float(share) * whole < 2**30, f"{name}: memory is not what the engine takes"
            parallel = config.models[name].parallel
            assert parallel is None or str(parallel) == option(service, "max-num-seqs"), name
        weights = info["catalogue"]["weights"]
        assert weights in service["command"] or option(service, "model-path") == weights, name


def test_health_is_asked_where_the_router_asks(engines: dict[str, Service], config: Config) -> None:
    for name, spec in config.models.items():
        service = engines[str(spec.container)]
        asked = " ".join(service["healthcheck"]["test"])
        health = urlsplit(spec.health_url)
        assert f"http://127.0.0.1:{health.port}{health.path}" in asked, name
        assert service["healthcheck"]["start_period"], name


def test_every_service_extends_an_engine_and_loosens_nothing() -> None:
    bases = yaml.safe_load((ROOT / "compose/engine.yml").read_text(encoding="utf-8"))["services"]
    assert all(base["extends"] == {"service": "engine"} for name, base in bases.items() if name != "engine")
    seen = 0
    for file in sorted((ROOT / "compose").glob("models-*.yml")):
        for name, service in yaml.safe_load(file.read_text(encoding="utf-8"))["services"].items():
            seen += 1
            assert service["extends"]["file"] == "engine.yml", name
            assert service["extends"]["service"] in bases, name
            allowed = {"extends", "profiles", "container_name", "command", "environment", "healthcheck", "shm_size"}
            assert service.keys() <= allowed, name
    assert seen == 53


def test_no_engine_logs_prompts(engines: dict[str, Service]) -> None:
    for name, service in engines.items():
        command = service["command"]
        assert not [word for word in command if word.startswith(LOGS_PROMPTS)], name
        if "sglang.launch_server" not in command:  # which logs none unless it is told to
            assert "--no-enable-log-requests" in command, name  # the older --disable-log-requests ends newer engines
            assert "--disable-log-stats" in command, name
        assert service["environment"]["VLLM_CONFIGURE_LOGGING"] == "0", name
        assert "VLLM_LOGGING_LEVEL" not in service["environment"], name


def test_caches_and_weights_outlive_the_container(engines: dict[str, Service]) -> None:
    kernels: dict[str, set[str]] = {}
    for name, service in engines.items():
        mounts = {volume["target"]: volume["source"] for volume in service["volumes"]}
        assert mounts.keys() == {"/models", "/root/.cache/huggingface", "/cache"}, name
        kernels.setdefault(mounts["/cache"], set()).add(service["image"])
        assert option(service, "download-dir") == "/models" or service["environment"]["HF_HUB_CACHE"] == "/models", name
    assert all(len(images) == 1 for images in kernels.values()), "two images share a cache of compiled kernels"


def test_every_model_is_described(config: Config) -> None:
    for name, card in config.cards.items():
        assert card.catalogue.family, name
        assert card.catalogue.quantization, name
        assert card.catalogue.good_for, name
        assert None not in (card.context, card.output, card.tools, card.vision, card.reasoning), name
        limits = card.catalogue.client_limits
        assert limits is None or limits.context <= (card.context or 0), name
    served = [card for name, card in config.cards.items() if name in config.models]
    assert {task for card in served for task in card.catalogue.good_for} == set(Task)
    assert sum(card.catalogue.status is Status.PROVEN for card in served) == 4


def test_roles(config: Config) -> None:
    by_role = {role: {name for name, spec in config.models.items() if spec.role is role} for role in Role}
    assert by_role[Role.UTILITY] == {"qwen3.5-0.8b"}
    assert len(by_role[Role.EXCLUSIVE]) == 4
    assert len(by_role[Role.NORMAL]) == 29


def test_rules_follow_what_a_model_can_do(config: Config) -> None:
    for name, rules in config.rules.items():
        card = config.cards[name]
        assert rules.images == ("accept" if card.vision else "refuse"), name
        assert (rules.tools == "strip") == (card.tools is False), name
        assert (rules.context_length, rules.max_output_tokens) == (card.context, card.output), name
        assert rules.thinking is None or card.reasoning, name
        if card.reasoning and name in config.models:
            for effort in get_args(Effort):  # one that the engine does not know ends the request, after a start
                sent = thinking.apply(Request(Shape.CHAT, {"reasoning_effort": effort}), rules).data
                assert sent.get("reasoning_effort") in (None, "low", "medium", "high"), f"{name}: {effort}"
    quiet = {name for name, rules in config.rules.items() if rules.thinking and rules.thinking.default is False}
    assert len(quiet) == 9
    assert sum(rules.tools == "force" for rules in config.rules.values()) == 3


def test_advice_names_models_that_are_served(config: Config) -> None:
    for name, card in config.cards.items():
        for problem in card.catalogue.known_problems:
            if " " not in problem.instead:
                assert problem.instead in config.models, name
