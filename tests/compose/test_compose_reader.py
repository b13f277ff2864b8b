"""The reader of `hearth check` against Compose itself: both understand the same files in the same way."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from check_tree import ENVIRONMENT, plant
from composition import MASTER_KEY, ROOT, Composition, reason_without_compose

from router.check import compose_file
from router.check.compose_service import Service, service
from router.check.compose_syntax import canonical
from router.check.findings import Place
from router.check.located import Located

#: What Compose can say in more than one way.
WAYS = """\
name: ways
x-common: &common
  init: true
  environment: {SHARED: yes, LEFT: 1}
include:
  - path: below/included.yml
    project_directory: .
  - below/plain.yml
services:
  long:
    <<: *common
    image: "${IMAGE:-a}:${TAG-latest}"
    entrypoint: ["/bin/run", "--flag"]
    command: serve 'two words' --price=$$5 "${SET:+given}"
    environment:
      ONE: ${SET}
      NOTHING:
      EMPTY: ""
      NUMBER: 3
      SWITCH: true
    ports:
      - "127.0.0.1:8080:80"
      - {target: 90, published: "9090", host_ip: "::1"}
      - "70"
    volumes:
      - ./here:/there:ro
      - data:/data
      - {type: tmpfs, target: /scratch}
      - {type: bind, source: ../outside, target: /outside, read_only: true}
    networks: {front: {aliases: [also]}, back: }
    healthcheck: {test: "curl -f localhost", start_period: 1h30m}
    stop_grace_period: 1m5s
    deploy: {resources: {reservations: {devices: [{capabilities: [gpu], count: 1}]}}}
    build: {context: ./here, dockerfile: Own}
    pid: host
  over:
    extends: {file: below/base.yml, service: top}
    command: [only, this]
    environment: ["TWO=2", "THREE=changed"]
    volumes: ["other:/data", "./here:/added"]
    cap_add: [KILL]
    healthcheck: {start_period: 5s}
  alone:
    image: b
    network_mode: host
    profiles: [tools, more]
    tmpfs: /tmp
    security_opt: [no-new-privileges:true]
    logging: {driver: journald}
    healthcheck: {disable: true}
    privileged: true
networks: {front: , back: {internal: "${INSIDE:-true}"}}
volumes: {data: , other: }
"""
BASE = """\
services:
  bottom:
    image: c:1
    entrypoint: []
    command: [all, of, that]
    environment: {ONE: 1, THREE: 3}
    volumes: ["data:/data", "./near:/near"]
    cap_add: [CHOWN]
    cap_drop: [ALL]
    healthcheck: {test: [CMD, "true"], start_period: 1m}
    restart: "no"
  top:
    extends: {service: bottom}
    profiles: [models]
    restart: always
"""
INCLUDED = "services:\n  included: {image: d, volumes: ['./rel:/rel'], environment: {FROM: '${WHERE:-default}'}}\n"
PLAIN = "services:\n  plain: {image: e, volumes: ['./rel:/rel']}\n"


@pytest.fixture(scope="module", autouse=True)
def compose() -> None:
    if reason := reason_without_compose():
        pytest.skip(reason)


def as_compose_says(document: dict[str, Any]) -> dict[str, Service]:
    """The services of `docker compose config --format json` as the checks see them."""

    def plain(value: Any) -> Any:
        """Compose escapes dollars, so that its output can be its input."""
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list):
            return [plain(item) for item in value]
        return value.replace("$$", "$") if isinstance(value, str) else value

    found = {}
    for name, form in document["services"].items():
        located = Located(Place(Path()))
        located.update(plain(form))
        found[name] = service(name, canonical(located, Path("/")))
    return found


def comparable(found: Service) -> dict[str, Any]:
    """Without the places, which Compose forgets, and in an order of its own."""
    form = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
    del form["place"], form["places"]
    form["mounts"] = sorted(form["mounts"], key=lambda mount: str(mount.target))
    form["ports"] = sorted(form["ports"], key=lambda port: str(port.target))
    form["cap_add"] = sorted(form["cap_add"])
    form["build"] = form["build"] and {key: form["build"].get(key) for key in ("context", "target")}
    form["container_name"] = form["container_name"] or None
    # Compose says what is taken when nothing is said.
    form["networks"] = form["networks"] or None
    return form


def compared(ours: dict[str, Service], theirs: dict[str, Service]) -> None:
    assert set(ours) == set(theirs)
    for name, one in ours.items():
        assert comparable(one) == comparable(theirs[name]), name


@pytest.mark.parametrize(
    "variables", [{}, {"HEARTH_WEIGHTS": "./w", "HEARTH_ENGINE_LOGGING": "1"}], ids=["bare", "set"]
)
def test_the_shipped_files_are_read_as_compose_reads_them(variables: dict[str, str]) -> None:
    theirs = Composition(variables=variables).config()
    ours = compose_file.read(ROOT / "docker-compose.yml", {"LITELLM_MASTER_KEY": MASTER_KEY} | variables)
    compared(ours.services, as_compose_says(theirs))
    assert ours.networks == set(theirs["networks"])
    assert ours.volumes >= set(theirs["volumes"])
    assert not ours.missing


def config(directory: Path, environment: dict[str, str], name: str = "docker-compose.yml") -> dict[str, Any]:
    command = ["docker", "compose", "--file", str(directory / name), "--profile", "*"]
    done = subprocess.run(
        [*command, "config", "--format", "json"],
        cwd="/",
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_the_files_for_one_card_are_read_as_compose_reads_them() -> None:
    name, environment = "docker-compose.one-gpu.yml", {"LITELLM_MASTER_KEY": MASTER_KEY}
    theirs = config(ROOT, environment, name)
    ours = compose_file.read(ROOT / name, environment)
    compared(ours.services, as_compose_says(theirs))
    assert set(theirs["services"]) > {"gateway", "router", "redis", "fetch"}


@pytest.mark.parametrize("environment", [{}, {"SET": "value", "IMAGE": "z", "WHERE": "shell"}], ids=["bare", "set"])
def test_all_ways_of_saying_it_are_understood(tmp_path: Path, environment: dict[str, str]) -> None:
    for name, text in {
        "docker-compose.yml": WAYS,
        "below/base.yml": BASE,
        "below/included.yml": INCLUDED,
        "below/plain.yml": PLAIN,
        ".env": "# a comment\nTAG=2 # another\nWHERE='from the file'\nexport INSIDE=false\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    ours = compose_file.read(tmp_path / "docker-compose.yml", environment)
    compared(ours.services, as_compose_says(config(tmp_path, environment)))
    assert {missing.name for missing in ours.missing} == ({"SET"} if not environment else set())


def test_the_box_of_the_unit_tests_is_one_that_compose_takes(tmp_path: Path) -> None:
    plant(tmp_path)
    ours = compose_file.read(tmp_path / "docker-compose.yml", ENVIRONMENT)
    compared(ours.services, as_compose_says(config(tmp_path, ENVIRONMENT)))
