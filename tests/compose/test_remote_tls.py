"""examples/remote-use/caddy.yml, run as it is in front of a stand-in for the gateway, with Debian's Caddy."""

from __future__ import annotations

import json
import os
import re
import secrets
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from composition import ROOT, Composition, docker, free_port, reason_without_compose, reason_without_remote

from router.settings import LifecycleSettings

pytestmark = [pytest.mark.compose, pytest.mark.timeout(180)]

OVERRIDE = ROOT / "examples/remote-use/caddy.yml"
CADDYFILE = ROOT / "examples/remote-use/Caddyfile"
NAME = "hearth.home.arpa"
SECRET = f"sk-{secrets.token_hex(12)}"
#: Seconds; only ends a test that hangs.
LIMIT = 30

STAND_IN = """
services:
  gateway:
    image: {image}
    build: !reset null
    command: [python3, /remote_gateway.py, 0.0.0.0, "8009"]
    volumes: !override ["{program}:/remote_gateway.py:ro"]
    networks: !override [edge]
    ports: !reset []
    depends_on: !reset {{}}
    healthcheck:
      test: [CMD, python3, -c, "import urllib.request as r; r.urlopen('http://127.0.0.1:8009/healthz')"]
      interval: 500ms
  caddy:
    healthcheck: {{interval: 500ms}}
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composition]:
    if reason := reason_without_remote():
        pytest.skip(reason)
    stand_in = tmp_path_factory.mktemp("stand-in") / "gateway.yml"
    program = Path(__file__).with_name("remote_gateway.py")
    stand_in.write_text(STAND_IN.format(image=os.environ["HEARTH_TEST_PYTHON_IMAGE"], program=program))
    composed = Composition(
        project=f"hearth-test-{secrets.token_hex(4)}",
        variables={
            "HEARTH_CADDY_IMAGE": os.environ["HEARTH_TEST_REMOTE_IMAGE"],
            "HEARTH_HTTPS_ADDRESS": "127.0.0.1",
            "HEARTH_HTTPS_PORT": str(free_port()),
        },
        overrides=[OVERRIDE, stand_in],
    )
    try:
        done = composed.run("up", "--detach", "--wait", "--wait-timeout", "120", "caddy", limit=150, check=False)
        assert done.returncode == 0, done.stderr + composed.run("logs", "--no-color", check=False).stdout
        yield composed
    finally:
        composed.run("down", "--volumes", "--timeout", "2", check=False)


@pytest.fixture(scope="module")
def client(running: Composition) -> Iterator[httpx.Client]:
    """A client that trusts the root certificate as docs/remote-use.md has it fetched, and nothing else."""
    root = running.run("exec", "-T", "caddy", "cat", "/data/caddy/pki/authorities/local/root.crt").stdout
    context = ssl.create_default_context(cadata=root)
    with httpx.Client(
        base_url=f"https://127.0.0.1:{running.variables['HEARTH_HTTPS_PORT']}",
        headers={"Host": NAME, "x-api-key": SECRET, "Authorization": f"Bearer {SECRET}"},
        verify=context,
        timeout=LIMIT,
        trust_env=False,
        event_hooks={"request": [lambda request: request.extensions.update(sni_hostname=NAME)]},
    ) as http:
        yield http


def test_only_caddy_is_reachable_from_other_machines_and_hardened_like_the_rest() -> None:
    if reason := reason_without_compose():
        pytest.skip(reason)
    services = Composition(overrides=[OVERRIDE]).config()["services"]
    published = {name: service["ports"] for name, service in services.items() if service.get("ports")}
    assert {name: [port["host_ip"] for port in ports] for name, ports in published.items()} == {
        "caddy": ["0.0.0.0"],
        "gateway": ["127.0.0.1"],
    }
    caddy, gateway = services["caddy"], services["gateway"]
    for key in ("read_only", "cap_drop", "security_opt", "init", "restart", "pids_limit", "logging"):
        assert caddy[key] == gateway[key], key
    assert caddy["cap_add"] == ["NET_BIND_SERVICE"]
    assert set(caddy["networks"]) == {"edge"}
    assert re.fullmatch(r"caddy:\d+\.\d+\.\d+", caddy["image"])


@pytest.mark.parametrize("tls", ["home", "public"])
def test_caddy_takes_the_file(tls: str) -> None:
    if reason := reason_without_remote():
        pytest.skip(reason)
    options = ["--rm", "--network", "none", "--env", f"HEARTH_TLS={tls}", "--env", "HEARTH_SITE=ai.example.org"]
    run = ["run", *options, "--volume", f"{CADDYFILE}:/Caddyfile:ro", os.environ["HEARTH_TEST_REMOTE_IMAGE"], "caddy"]
    adapted = json.loads(docker(*run, "adapt", "--validate", "--adapter", "caddyfile", "--config", "/Caddyfile"))
    (policy,) = adapted["apps"]["tls"]["automation"]["policies"]
    assert policy["subjects"] == ["ai.example.org"]
    assert [issuer["module"] for issuer in policy["issuers"]] == [{"home": "internal", "public": "acme"}[tls]]
    docker(*run, "fmt", "/Caddyfile")  # fails when it is not formatted


def test_tls_with_a_certificate_for_the_name(client: httpx.Client) -> None:
    answer = client.get("/v1/models")
    assert answer.status_code == 200
    assert answer.json() == {"port": 8009, "path": "/v1/models"}


def test_nothing_answers_in_the_clear(running: Composition) -> None:
    url = f"http://127.0.0.1:{running.variables['HEARTH_HTTPS_PORT']}/v1/models"
    assert httpx.get(url, headers={"Host": NAME}, timeout=LIMIT, trust_env=False).status_code == 400


@pytest.mark.parametrize(
    "path",
    ["/", "/healthz", "/metrics", "/lifecycle", "/lifecycle/", "/lifecycle/stream", "/ui", "/ui/", "/key/generate",
     "/v1/key", "/model/info", "/spend/logs", "/config/yaml", "/docs", "/openapi.json", "//lifecycle/",
     "/V1/../lifecycle/", "/v1/models/../../lifecycle/", "/v1/models/%2e%2e/%2e%2e/key/info",
     "/v1/models/..%2f..%2flifecycle/"],
)  # fmt: skip
def test_what_is_not_a_models_address_is_not_there(client: httpx.Client, path: str) -> None:
    url = httpx.URL(str(client.base_url)).copy_with(raw_path=path.encode())
    for method in ("GET", "POST"):
        assert client.request(method, url).status_code == 404, method


def test_a_stream_arrives_as_it_is_sent(client: httpx.Client) -> None:
    """The stand-in sends its second part when the first one has been read: a proxy that collects would never end."""
    with client.stream("POST", "/v1/chat/completions", json={"stream": True}) as answer:
        lines = answer.iter_lines()
        assert next(lines) == ": waiting"
        assert client.post("/v1/embeddings", json={}).status_code == 200
        assert [line for line in lines if line] == ["data: awake"]


def test_who_leaves_while_the_model_sleeps_leaves_the_gateway_too(client: httpx.Client) -> None:
    request = client.build_request("POST", "/v1/completions", json={"prompt": "hello"}, timeout=0.5)
    with pytest.raises(httpx.ReadTimeout):
        client.send(request)
    assert client.get("/v1/models/arrived").status_code == 200
    assert client.get("/v1/models/left").status_code == 200  # answered when the stand-in has seen it


def test_a_body_is_as_long_as_the_gateway_allows_and_not_much_longer(client: httpx.Client) -> None:
    """The gateway's own 413 says more, so Caddy's limit is above it; what it then answers differs by its version."""
    limit = LifecycleSettings.model_fields["max_body"].default
    assert client.post("/v1/messages", content=bytes(limit + 1)).status_code == 200
    assert client.post("/v1/messages", content=bytes(limit + 2**20 + 1)).status_code in (413, 502)


def test_no_key_is_logged_not_even_when_something_fails(client: httpx.Client, running: Composition) -> None:
    """Last: it stops the gateway."""
    assert client.get(f"/v1/models?key={SECRET}").status_code == 200
    running.run("stop", "--timeout", "0", "gateway")
    assert client.get("/v1/models").status_code == 502
    running.run("stop", "--timeout", "10", "caddy")  # what it logs is written
    logged = running.run("logs", "--no-color", "--no-log-prefix", "caddy").stdout
    entries = [json.loads(line[line.index("{") :]) for line in logged.splitlines()]
    assert {entry["status"] for entry in entries if entry.get("logger") == "http.log.access"} >= {200, 502}
    assert [entry for entry in entries if entry.get("logger") == "http.log.error"]
    assert SECRET not in logged
