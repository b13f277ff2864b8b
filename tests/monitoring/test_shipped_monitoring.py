"""What compose/monitoring ships: its rules, the dashboard and the services beside it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from prometheus import (
    ROOT,
    SHIPPED,
    alert_expressions,
    configuration,
    dashboard_expressions,
    metric_names,
    panels,
    promtool,
    reason_without_prometheus,
)

sys.path.insert(0, str(ROOT / "tests" / "compose"))
from composition import Composition, reason_without_compose

DOCUMENT = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
DASHBOARD = json.loads((SHIPPED / "grafana" / "dashboards" / "hearth.json").read_text(encoding="utf-8"))
wants_prometheus = pytest.mark.skipif(bool(reason_without_prometheus()), reason=reason_without_prometheus())
wants_compose = pytest.mark.skipif(bool(reason_without_compose()), reason=reason_without_compose())


# --- Prometheus


@wants_prometheus
def test_prometheus_accepts_the_configuration_and_its_rules(tmp_path: Path) -> None:
    path = configuration(tmp_path, "sk-key", "127.0.0.1:8009", "15s")
    done = promtool("check", "config", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"SUCCESS: {len(alert_expressions())} rules found" in done.stdout


@wants_prometheus
def test_every_alert_fires_when_it_should_and_only_then() -> None:
    done = promtool("test", "rules", str(Path(__file__).parent / "alerts_test.yml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tried_and_has_advice() -> None:
    tried = (Path(__file__).parent / "alerts_test.yml").read_text(encoding="utf-8")
    for name in alert_expressions():
        assert f'alertname="{name}"' in tried, name
        assert f"| `{name}` |" in DOCUMENT, name


def test_the_key_is_in_a_file() -> None:
    document = yaml.safe_load((SHIPPED / "prometheus.yml").read_text(encoding="utf-8"))
    (scrape,) = document["scrape_configs"]
    assert scrape["authorization"] == {"credentials_file": "/run/secrets/metrics-key"}


def test_rules_and_dashboard_name_metrics_that_there_are() -> None:
    documented = {line.split("`")[1] for line in DOCUMENT.splitlines() if line.startswith("| `hearth_")}
    used = {name for each in [*alert_expressions().values(), *dashboard_expressions()] for name in metric_names(each)}
    assert used - documented == set()
    assert len(used) > 20


# --- Grafana: its own description of dashboards; the program itself is not asked


def lost(given: Any, kept: Any, where: str = "") -> list[str]:
    """What of a document is not in what its reader has made of it."""
    if isinstance(given, dict):
        return [
            line
            for key, value in given.items()
            for line in (lost(value, kept[key], f"{where}/{key}") if key in kept else [f"{where}/{key}"])
        ]
    if isinstance(given, list):
        assert len(given) == len(kept), where
        return [
            line for index, pair in enumerate(zip(given, kept, strict=True)) for line in lost(*pair, f"{where}/{index}")
        ]
    return [] if given == kept else [f"{where}: {given} became {kept}"]


def test_grafanas_description_knows_every_key_of_the_dashboard() -> None:
    register_default_plugins()
    kept = json.loads(JSONEncoder().encode(Dashboard.from_json(DASHBOARD)))
    assert lost(DASHBOARD, kept) == []


def test_a_key_that_grafana_does_not_know_is_found() -> None:
    register_default_plugins()
    wrong = json.loads(json.dumps(DASHBOARD))
    wrong["panels"][1]["fieldConfig"]["defaults"]["units"] = "s"
    wrong["panels"][1]["options"]["graphMod"] = "none"
    kept = json.loads(JSONEncoder().encode(Dashboard.from_json(wrong)))
    assert lost(wrong, kept) == ["/panels/1/fieldConfig/defaults/units", "/panels/1/options/graphMod"]


def test_panels_have_their_own_place_and_number() -> None:
    places = set()
    for panel in DASHBOARD["panels"]:
        box = panel["gridPos"]
        assert box["x"] + box["w"] <= 24, panel["title"]
        cells = {(x, y) for x in range(box["x"], box["x"] + box["w"]) for y in range(box["y"], box["y"] + box["h"])}
        assert not places & cells, panel["title"]
        places |= cells
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)


def test_every_panel_asks_the_source_that_was_chosen() -> None:
    for panel in panels():
        assert panel["targets"], panel["title"]
        for asking in [panel, *panel["targets"]]:
            assert asking["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, panel["title"]


# --- the services


@wants_compose
def test_the_services_are_hardened_and_only_grafana_is_reached() -> None:
    variables = {"HEARTH_GRAFANA_PASSWORD": "x"}
    document = Composition(variables=variables, overrides=[ROOT / "compose" / "monitoring.yml"]).config()
    plain = Composition().config()
    added = {name: document["services"][name] for name in document["services"].keys() - plain["services"].keys()}
    assert added.keys() == {"prometheus", "grafana"}
    for name, service in added.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert not service.get("cap_add"), name
        assert not service.get("privileged"), name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert set(service["networks"]) == {"monitoring"}, name
        assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}, name
        assert service["healthcheck"]["test"], name
        assert ":" in service["image"], name
        assert not service["image"].endswith(":latest"), name
        binds = [volume for volume in service["volumes"] if volume["type"] == "bind"]
        assert binds, name
        for bind in binds:
            assert bind["read_only"] is True, bind
            assert Path(bind["source"]).exists(), bind
            assert Path(bind["source"]).is_relative_to(SHIPPED), bind
    assert "ports" not in added["prometheus"]
    (port,) = added["grafana"]["ports"]
    assert (port["host_ip"], port["published"]) == ("127.0.0.1", "3000")
    gateway = document["services"]["gateway"]
    assert set(gateway.pop("networks")) == {*plain["services"]["gateway"].pop("networks"), "monitoring"}
    assert {name: each for name, each in document["services"].items() if name not in added} == plain["services"]


@wants_compose
def test_grafanas_password_has_no_default() -> None:
    composition = Composition(overrides=[ROOT / "compose" / "monitoring.yml"])
    done = composition.run("config", "--quiet", check=False)
    assert done.returncode != 0
    assert "HEARTH_GRAFANA_PASSWORD" in done.stderr
