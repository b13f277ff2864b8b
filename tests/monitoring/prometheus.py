"""Debian's Prometheus as a test uses it: promtool, and a server of its own on a free port."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import yaml

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "compose" / "monitoring"
_LIMIT = 30.0


def reason_without_prometheus() -> str:
    """Why Prometheus cannot be used here; empty when it can."""
    place = os.environ.get("HEARTH_TEST_PROMETHEUS", "")
    if not place:
        return "HEARTH_TEST_PROMETHEUS not set; tests/environment/prepare fetches it"
    return "" if (Path(place) / "promtool").exists() else f"no promtool in {place}"


def program(name: str) -> str:
    return str(Path(os.environ["HEARTH_TEST_PROMETHEUS"]) / name)


def promtool(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program("promtool"), *arguments], input=given, capture_output=True, text=True, timeout=60, check=False
    )


def configuration(directory: Path, key: str, address: str, interval: str) -> Path:
    """The shipped configuration and rules, for another address, with the key in a file."""
    document = yaml.safe_load((SHIPPED / "prometheus.yml").read_text(encoding="utf-8"))
    secret = directory / "key"
    secret.write_text(key)
    (scrape,) = document["scrape_configs"]
    scrape["authorization"]["credentials_file"] = str(secret)
    scrape["static_configs"] = [{"targets": [address]}]
    document["global"] = {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval}
    document["rule_files"] = [str(SHIPPED / "alerts.yml")]
    path = directory / "prometheus.yml"
    path.write_text(yaml.safe_dump(document))
    return path


def panels() -> list[dict[str, Any]]:
    """The dashboard's panels, rows left out."""
    document = json.loads((SHIPPED / "grafana" / "dashboards" / "hearth.json").read_text(encoding="utf-8"))
    return [panel for panel in document["panels"] if panel["type"] != "row"]


def dashboard_expressions() -> list[str]:
    """What the dashboard asks, with Grafana's variables filled in."""
    document = json.loads((SHIPPED / "grafana" / "dashboards" / "hearth.json").read_text(encoding="utf-8"))
    found = [target["expr"] for panel in panels() for target in panel["targets"]]
    found += [each["expr"] for each in document["annotations"]["list"]]
    return [each.replace("$__rate_interval", "1m").replace("$model", ".*") for each in found]


def alert_expressions() -> dict[str, str]:
    """Each alert's expression by its name."""
    document = yaml.safe_load((SHIPPED / "alerts.yml").read_text(encoding="utf-8"))
    return {rule["alert"]: rule["expr"] for group in document["groups"] for rule in group["rules"]}


def metric_names(expression: str) -> set[str]:
    """The metrics of ours that an expression names, histograms without the endings of their parts."""
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\bhearth_\w+", expression)}


class NotReady(Exception):
    """Prometheus listens, and still reads what it has stored."""


class Server:
    """A Prometheus that scrapes. Use as a context."""

    def __init__(self, config: Path, directory: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._command = [
            program("prometheus"),
            f"--config.file={config}",
            f"--storage.tsdb.path={directory / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        self._log = directory / "prometheus.log"
        self._http = httpx.Client(base_url=self.url, timeout=10, trust_env=False)

    def __enter__(self) -> Server:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()
        self._process.terminate()
        self._process.wait(_LIMIT)

    def until(self, expression: str, what: str) -> list[dict[str, Any]]:
        """What the expression gives, once it gives something. Raises AssertionError after a while."""
        for _ in self._tries():
            try:
                if found := self.query(expression):
                    return found
            except (httpx.TransportError, NotReady):
                assert self._process.poll() is None, self._log.read_text()
        raise AssertionError(f"not within {_LIMIT:.0f} s: {what}\n{self._log.read_text()[-2000:]}")

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples now. Raises AssertionError when Prometheus cannot evaluate it, and NotReady."""
        said = self._http.get("/api/v1/query", params={"query": expression})
        if said.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            raise NotReady(said.text)
        answer = said.json()
        assert answer["status"] == "success", f"{expression}: {answer}"
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def rules(self) -> list[dict[str, Any]]:
        """The rules with their health and last error."""
        groups = self._http.get("/api/v1/rules").json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def _tries(self) -> Iterator[None]:
        end = time.monotonic() + _LIMIT
        while time.monotonic() < end:
            yield
            time.sleep(0.05)
