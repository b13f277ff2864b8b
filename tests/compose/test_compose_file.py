"""What the Compose files say, without starting anything: who is reachable, who may what, and that they agree with
litellm_config.yaml."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from composition import ROOT, Composition, reason_without_compose

from router.config import load

pytestmark = pytest.mark.compose

Service = dict[str, Any]
CONTROL = {"gateway", "router", "redis"}


@pytest.fixture(scope="module")
def composition() -> Composition:
    if reason := reason_without_compose():
        pytest.skip(reason)
    return Composition()


@pytest.fixture(scope="module")
def document(composition: Composition) -> dict[str, Any]:
    return composition.config()


@pytest.fixture(scope="module")
def services(document: dict[str, Any]) -> dict[str, Service]:
    found: dict[str, Service] = document["services"]
    return found


@pytest.fixture(scope="module")
def engines(services: dict[str, Service]) -> dict[str, Service]:
    found = {name: service for name, service in services.items() if name not in CONTROL}
    assert len(found) >= 3
    return found


def option(service: Service, name: str) -> str | None:
    """The value of `--name=value` in a service's command."""
    for word in service["command"]:
        if word.startswith(f"--{name}="):
            return str(word.partition("=")[2])
    return None


def test_only_the_gateway_publishes_a_port_and_only_on_this_machine(services: dict[str, Service]) -> None:
    published = {name: service["ports"] for name, service in services.items() if service.get("ports")}
    assert list(published) == ["gateway"]
    (port,) = published["gateway"]
    assert (port["host_ip"], port["published"], port["target"]) == ("127.0.0.1", "8009", 8009)
    assert not [name for name, service in services.items() if service.get("network_mode") == "host"]


def test_only_the_router_has_the_docker_socket(services: dict[str, Service]) -> None:
    having = {
        name
        for name, service in services.items()
        for volume in service.get("volumes", [])
        if "docker" in volume["source"] or "docker" in volume["target"]
    }
    assert having == {"router"}


def test_networks(document: dict[str, Any], services: dict[str, Service], engines: dict[str, Service]) -> None:
    assert document["networks"]["control"]["internal"] is True
    attached = {name: set(service["networks"]) for name, service in services.items()}
    assert attached["gateway"] == {"control", "models", "edge"}
    assert attached["router"] == {"control", "models"}
    assert attached["redis"] == {"control"}
    assert {name for name in engines if attached[name] != {"models"}} == set()


def test_engines_can_be_cut_off_from_the_internet() -> None:
    offline = Composition(variables={"HEARTH_MODELS_OFFLINE": "true"}).config()["networks"]
    assert offline["models"]["internal"] is True
    assert not offline["edge"].get("internal")


@pytest.mark.parametrize("name", sorted(CONTROL))
def test_control_services_are_hardened(services: dict[str, Service], name: str) -> None:
    service = services[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service.get("cap_add", []) == (["SETUID", "SETGID", "KILL"] if name == "router" else [])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["init"] is True
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"]
    assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}
    assert not service.get("privileged")


def test_engines_are_hardened_and_left_to_the_router(engines: dict[str, Service]) -> None:
    for name, service in engines.items():
        assert service["profiles"], f"{name} has no profile: `up` would start it"
        assert service["restart"] == "no", name
        assert service["container_name"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}, name
        assert service["deploy"]["resources"]["reservations"]["devices"], name
        assert not service.get("privileged"), name
        assert not service.get("depends_on"), name


def test_nothing_logs_prompts_and_no_key_has_a_default(engines: dict[str, Service]) -> None:
    for name, service in engines.items():
        assert not [key for key in service["environment"] if re.search("(KEY|TOKEN|SECRET)$", key)], name
        command = " ".join(service["command"])
        assert "--api-key" not in command, name
        if "sglang" in command:
            assert "--log-requests" not in command, name
        else:
            assert {"--disable-log-requests", "--no-enable-log-requests"} & set(service["command"]), name


def test_images_are_pinned_and_need_no_log_in(engines: dict[str, Service]) -> None:
    for name, service in engines.items():
        first = service["image"].split("/")[0]
        assert "." not in first or "/" not in service["image"], f"{name}: {service['image']} names a registry"
        if "models" in service["profiles"]:  # the others are built on the box and have no digest
            assert re.search(r"@sha256:[0-9a-f]{64}$", service["image"]), name


def test_the_admin_key_is_required_and_the_error_says_how() -> None:
    done = Composition(variables={"LITELLM_MASTER_KEY": ""}).run("config", "--quiet", check=False)
    assert done.returncode != 0
    assert "LITELLM_MASTER_KEY" in done.stderr
    assert "make .env" in done.stderr


def test_base_images_are_arguments() -> None:
    chosen = {f"HEARTH_{kind}_IMAGE": f"{kind.lower()}:own" for kind in ("PYTHON", "REDIS", "WHEELS")}
    services = Composition(variables=chosen).config()["services"]
    for name in ("gateway", "router"):
        assert services[name]["build"]["args"] == {"PYTHON_IMAGE": "python:own", "WHEELS_IMAGE": "wheels:own"}
    assert services["redis"]["build"]["args"] == {"REDIS_IMAGE": "redis:own"}


def test_every_setting_of_the_example_is_used_and_described() -> None:
    files = [ROOT / "docker-compose.yml", *sorted((ROOT / "compose").glob("*.yml"))]
    text = "".join(file.read_text(encoding="utf-8") for file in files)
    used = dict(re.findall(r"\$\{((?:HEARTH|LITELLM)_[A-Z0-9_]+):[-?]([^}]*)\}", text))
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    shown = dict(re.findall(r"^#?([A-Z_]+)=(.*)$", example, re.MULTILINE))
    assert shown.keys() <= used.keys()
    images = {name for name in used if name.startswith("HEARTH_IMAGE_")}
    assert used.keys() - shown.keys() == images
    assert {name: used[name] for name in shown if shown[name]} == {name: shown[name] for name in shown if shown[name]}


def test_models_agree_with_the_litellm_configuration(engines: dict[str, Service]) -> None:
    path = ROOT / "litellm_config.yaml"
    configured = load(path).models
    by_container = {service["container_name"]: service for service in engines.values()}
    assert {model.container for model in configured.values()} == set(by_container)
    for entry in yaml.safe_load(path.read_text(encoding="utf-8"))["model_list"]:
        name, model = entry["model_name"], configured[entry["model_name"]]
        service = by_container[model.container]
        provider, _, served = entry["litellm_params"]["model"].partition("/")
        assert provider == "hosted_vllm"
        assert option(service, "served-model-name") == served, name
        assert urlsplit(model.api_base).hostname == model.container, name
        assert str(urlsplit(model.api_base).port) == option(service, "port"), name
        longest = option(service, "max-model-len") or option(service, "context-length")
        assert longest == str(entry["model_info"]["max_input_tokens"]), name
        share = option(service, "gpu-memory-utilization") or option(service, "mem-fraction-static")
        assert share is not None, name
        whole = load(path).settings.gpus["0"].memory
        assert 0 <= model.memory - float(share) * whole < 2**30, f"{name}: memory is not what the engine takes"
