"""What the Compose files say, without starting anything: who is reachable, and who may what."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from composition import ROOT, Composition, reason_without_compose

from router.settings import PageCacheSettings

pytestmark = pytest.mark.compose

Service = dict[str, Any]
CONTROL = {"gateway", "router", "redis"}
TOOLS = {"fetch", "page-cache"}


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
    found = {name: service for name, service in services.items() if name not in CONTROL | TOOLS}
    assert len(found) >= 3
    return found


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
    attached = {name: set(service.get("networks") or ()) for name, service in services.items()}
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


def test_fetch_writes_to_what_engines_read_and_nowhere_else(
    services: dict[str, Service], engines: dict[str, Service]
) -> None:
    service = services["fetch"]
    assert service["profiles"], "`up` would start it"
    assert service["restart"] == "no"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert not service.get("cap_add")
    assert set(service["networks"]) == {"edge"}
    volumes = {volume["target"]: volume for volume in service["volumes"] if volume["type"] == "volume"}
    engine = {volume["target"]: volume["source"] for volume in next(iter(engines.values()))["volumes"]}
    assert {target: volume["source"] for target, volume in volumes.items()} == {
        "/models": engine["/models"],
        "/huggingface": engine["/root/.cache/huggingface"],
    }
    assert all(volume["read_only"] for volume in service["volumes"] if volume["type"] == "bind")
    environment = service["environment"]
    assert environment["HEARTH_WEIGHTS"] == "/models"
    assert environment["HEARTH_HUB"] == "/huggingface/hub", "the folder hub of the engines' HF_HOME"
    assert environment["HF_TOKEN"] == "", "nobody's, unless somebody sets it"


def test_page_cache_reaches_one_file_of_the_machine_and_nobody(services: dict[str, Service]) -> None:
    service = services["page-cache"]
    assert service["profiles"] == ["page-cache"], "an admin enables it"
    assert service["network_mode"] == "none"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert not service.get("cap_add")
    assert not service.get("privileged")
    assert service["security_opt"] == ["no-new-privileges:true"]
    shared, kernel = service["volumes"]
    assert (shared["type"], shared["source"]) == ("volume", "page-cache")
    assert (kernel["type"], kernel["source"]) == ("bind", "/proc/sys/vm/drop_caches")
    users = {name: volume for name, each in services.items() for volume in each.get("volumes", [])
             if volume["source"] == "page-cache"}  # fmt: skip
    assert users.keys() == {"router", "page-cache"}
    assert users["router"]["read_only"] is True
    assert PageCacheSettings().socket.startswith(users["router"]["target"] + "/")


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
            assert "--no-enable-log-requests" in service["command"], name


def test_images_are_pinned_or_never_pulled(engines: dict[str, Service]) -> None:
    for name, service in engines.items():
        pinned = re.search(r"@sha256:[0-9a-f]{64}$", service["image"])
        built = service.get("pull_policy") == "never"  # it has no digest, and its name could be anybody's elsewhere
        assert bool(pinned) != built, f"{name}: {service['image']}"
        assert built or "models-built" not in service["profiles"], name
        assert pinned or "models" not in service["profiles"], f"{name}: `create` fails where the image is not built"


def test_the_admin_key_is_required_and_the_error_says_how() -> None:
    done = Composition(variables={"LITELLM_MASTER_KEY": ""}).run("config", "--quiet", check=False)
    assert done.returncode != 0
    assert "LITELLM_MASTER_KEY" in done.stderr
    assert "make .env" in done.stderr


def test_base_images_are_arguments() -> None:
    chosen = {f"HEARTH_{kind}_IMAGE": f"{kind.lower()}:own" for kind in ("PYTHON", "REDIS", "WHEELS")}
    services = Composition(variables=chosen).config()["services"]
    for name in ("gateway", "router"):
        assert services[name]["build"]["args"] == {
            "PYTHON_IMAGE": "python:own",
            "WHEELS_IMAGE": "wheels:own",
            "REQUIREMENTS": "run",
        }
    assert services["redis"]["build"]["args"] == {"REDIS_IMAGE": "redis:own"}


def test_every_setting_of_the_example_is_used_and_described() -> None:
    files = [ROOT / "docker-compose.yml", *sorted((ROOT / "compose").glob("*.yml"))]
    text = "".join(file.read_text(encoding="utf-8") for file in files)
    used = dict(re.findall(r"\$\{((?:HEARTH|LITELLM|HF)_[A-Z0-9_]+):[-?]([^}]*)\}", text))
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    shown = dict(re.findall(r"^#?([A-Z_]+)=(.*)$", example, re.MULTILINE))
    assert all((ROOT / file).is_file() for file in shown.pop("COMPOSE_FILE").split(":"))  # Compose's own setting
    assert shown.keys() <= used.keys()
    images = {name for name in used if name.startswith("HEARTH_IMAGE_")}
    assert used.keys() - shown.keys() == images
    assert {name: used[name] for name in shown if shown[name]} == {name: shown[name] for name in shown if shown[name]}


def test_what_the_configuration_includes_is_mounted_beside_it(services: dict[str, Service]) -> None:
    included = yaml.safe_load((ROOT / "litellm_config.yaml").read_text(encoding="utf-8"))["include"]
    for name in ("gateway", "router"):
        mounted = {volume["target"]: volume for volume in services[name]["volumes"]}
        config, catalogue = mounted["/etc/hearth/litellm_config.yaml"], mounted["/etc/hearth/compose"]
        assert config["read_only"] is catalogue["read_only"] is True
        assert config["source"] == str(ROOT / "litellm_config.yaml")
        assert catalogue["source"] == str(ROOT / "compose")
        assert services[name]["environment"]["HEARTH_CONFIG"] == config["target"]
    assert {str(Path(file).parent) for file in included} == {"compose"}


def test_the_owner_may_have_a_configuration_and_a_catalogue_elsewhere() -> None:
    own = {"HEARTH_CONFIG_FILE": "/srv/hearth.yaml", "HEARTH_CATALOGUE": "/srv/models"}
    volumes = Composition(variables=own).config()["services"]["gateway"]["volumes"]
    binds = {volume["source"] for volume in volumes if volume["type"] == "bind"}
    assert binds == {"/srv/hearth.yaml", "/srv/models"}


def test_the_gateway_reads_the_engines_tokenizers(services: dict[str, Service], engines: dict[str, Service]) -> None:
    (cache,) = (volume for volume in services["gateway"]["volumes"] if volume["type"] == "volume")
    assert cache["read_only"] is True
    assert services["gateway"]["environment"]["HF_HOME"] == cache["target"]
    for name, engine in engines.items():
        (target,) = (volume["target"] for volume in engine["volumes"] if volume["source"] == cache["source"])
        assert engine["environment"]["HF_HOME"] == target, name


# --- with a database


@pytest.fixture(scope="module")
def with_database() -> dict[str, Any]:
    if reason := reason_without_compose():
        pytest.skip(reason)
    variables = {"HEARTH_DATABASE_PASSWORD": "letters", "LITELLM_SALT_KEY": "sk-salt"}
    return Composition(variables=variables, overrides=[ROOT / "compose" / "postgres.yml"]).config()


def test_the_database_is_reached_by_the_gateway_and_its_migrations_alone(with_database: dict[str, Any]) -> None:
    services = with_database["services"]
    assert with_database["networks"]["database"]["internal"] is True
    attached = {name for name, service in services.items() if "database" in (service.get("networks") or ())}
    assert attached == {"gateway", "migrate", "postgres"}
    assert set(services["gateway"]["networks"]) == {"control", "models", "edge", "database"}
    assert set(services["migrate"]["networks"]) == set(services["postgres"]["networks"]) == {"database"}
    assert not services["postgres"].get("ports")
    assert [name for name, service in services.items() if "DATABASE_URL" in (service.get("environment") or {})] == [
        "gateway",
        "migrate",
    ]


@pytest.mark.parametrize("name", ["migrate", "postgres"])
def test_database_services_are_hardened(with_database: dict[str, Any], name: str) -> None:
    service = with_database["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert not service.get("cap_add")
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.get("privileged")
    assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}


def test_the_gateway_starts_when_its_database_is_up_to_date(with_database: dict[str, Any]) -> None:
    services = with_database["services"]
    assert services["gateway"]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
    assert services["migrate"]["depends_on"]["postgres"]["condition"] == "service_healthy"
    assert services["postgres"]["healthcheck"]["test"]
    assert services["postgres"]["user"] == "postgres"
    (volume,) = services["postgres"]["volumes"]
    assert (volume["type"], volume["source"]) == ("volume", "postgres")
    for name in ("gateway", "migrate"):
        assert services[name]["build"]["target"] == "gateway-database"
    assert services["router"]["build"]["target"] == "router"


@pytest.mark.parametrize("name", ["HEARTH_DATABASE_PASSWORD", "LITELLM_SALT_KEY"])
def test_the_databases_secrets_are_required_and_the_error_says_how(name: str) -> None:
    variables = {"HEARTH_DATABASE_PASSWORD": "letters", "LITELLM_SALT_KEY": "sk-salt"} | {name: ""}
    composition = Composition(variables=variables, overrides=[ROOT / "compose" / "postgres.yml"])
    done = composition.run("config", "--quiet", check=False)
    assert done.returncode != 0
    assert name in done.stderr
    assert "make .env" in done.stderr


def test_make_env_fills_in_every_secret(tmp_path: Path) -> None:
    for name in ("Makefile", ".env.example"):
        (tmp_path / name).write_text((ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")
    subprocess.run(["make", ".env"], cwd=tmp_path, check=True, capture_output=True, timeout=30)
    written = tmp_path / ".env"
    values = dict(re.findall(r"^(\w+)=(.*)$", written.read_text(encoding="utf-8"), re.MULTILINE))
    passwords = {"HEARTH_DATABASE_PASSWORD", "HEARTH_GRAFANA_PASSWORD"}
    assert values.keys() == {"LITELLM_MASTER_KEY", "LITELLM_SALT_KEY"} | passwords
    assert all(re.fullmatch("(sk-)?[0-9a-f]{48}", value) for value in values.values()), values
    assert len({value.removeprefix("sk-") for value in values.values()}) == 4
    assert written.stat().st_mode & 0o077 == 0


def test_open_webui_reaches_the_gateway_and_is_reached_on_this_machine_only(services: dict[str, Service]) -> None:
    variables = {"HEARTH_API_KEY": "sk-own", "WEBUI_SECRET_KEY": "x"}
    beside = ROOT / "examples" / "clients" / "open-webui.yml"
    webui = Composition(variables=variables, overrides=[beside]).config()["services"]["open-webui"]
    base = urlsplit(webui["environment"]["OPENAI_API_BASE_URL"])
    assert base.hostname is not None
    assert set(webui["networks"]) <= set(services[base.hostname]["networks"])
    assert base.port in {port["target"] for port in services[base.hostname]["ports"]}
    (port,) = webui["ports"]
    assert port["host_ip"] == "127.0.0.1"
    assert webui["environment"]["OPENAI_API_KEY"] == "sk-own"
    refused = Composition(overrides=[beside]).run("config", "--quiet", check=False)
    assert "required variable" in refused.stderr
    assert refused.returncode
