"""`hearth check` on a small box with nothing wrong, in which one thing at a time is broken."""

from __future__ import annotations

import contextlib
import functools
import json
import operator
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from check_tree import DIGEST, ENVIRONMENT, FILES, edit, plant
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from litellm.proxy._types import ConfigGeneralSettings
from litellm.types.router import LiteLLM_Params, ModelInfo
from litellm.types.utils import ModelInfoBase
from typer.testing import CliRunner

from router.check.codes import CODES
from router.check.findings import Finding, Severity
from router.check.run import run
from router.cli.main import app
from router.errors import ConfigError

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
CONFIG, MODELS = "litellm_config.yaml", "compose/litellm.yaml"
COMPOSE, ENGINE, SERVICES = "docker-compose.yml", "compose/engine.yml", "compose/models.yml"
FACTS, RECIPES = "custom-docker-containers/engine-flags.yaml", "custom-docker-containers/docker-bake.json"


@dataclass(frozen=True)
class Case:
    """code: what breaking `old` into `new` is. where: the file and the text of the line that the finding names.

    also: codes of what the same change breaks beside it.
    """

    code: str
    file: str
    old: str
    new: str
    where: tuple[str, str] | None = None
    also: tuple[str, ...] = ()


#: Begins the three services; a line of box-main's own; one of the three profiles.
EXTENDS, NAME, PULLED = "extends: {file: engine.yml", "container_name: box-main", "profiles: [models]"
IMAGE = "${MAIN_IMAGE:-own-vllm}"
PORT = '"127.0.0.1:${PORT:-8009}:8009"'

CASES = [
    Case("config-invalid", CONFIG, "idle_timeout: 20m", "idle_timeout: soon", (CONFIG, "idle_timeout: soon")),
    Case("config-invalid", MODELS, "memory: 6GiB", "memory: 6 Gigs", (MODELS, "6 Gigs")),
    Case("config-invalid", MODELS, "role: utility", "role: helper", (MODELS, "role: helper")),
    Case("unknown-key", MODELS, "memory: 6GiB, role", "memory: 6GiB, rolle", (MODELS, "rolle")),
    Case("unknown-key", CONFIG, "stop_timeout", "stop_timout", (CONFIG, "stop_timout")),
    Case("unknown-key", MODELS, "catalogue: {weights", "catalog: {weights", (MODELS, "catalog:")),
    Case("unknown-key", MODELS, "max_input_tokens: 131072", "max_input_token: 131072", (MODELS, "max_input_token:"),
         also=("context-unknown",)),
    Case("unknown-key", CONFIG, "litellm_settings", "litellm_setings", (CONFIG, "litellm_setings"),
         also=("prompt-logging",)),
    Case("repeated-key", MODELS, "max_input_tokens: 32768", "max_input_tokens: 1\n      max_input_tokens: 32768",
         (MODELS, "max_input_tokens: 32768")),
    Case("repeated-key", ENGINE, "    init: true", "    init: false\n    init: true", (ENGINE, "init: true")),
    Case("never-fits", MODELS, "memory: 80GiB", "memory: 91GiB", (MODELS, "91GiB"), also=("memory-slack",)),
    Case("duplicate-model", MODELS, "model_name: main", "model_name: helper"),
    Case("duplicate-container", MODELS, "{container: box-main", "{container: box-helper"),
    Case("duplicate-container", SERVICES, "container_name: box-broken", NAME, (SERVICES, NAME),
         also=("container-name",)),
    Case("container-missing", MODELS, "{container: box-main", "{container: box-mian", (MODELS, "box-mian"),
         also=("model-missing",)),
    Case("container-name", SERVICES, NAME, "labels: {}", (SERVICES, EXTENDS)),
    Case("container-name", SERVICES, NAME, "container_name: other", (SERVICES, "container_name: other")),
    Case("model-missing", CONFIG, "include:\n  - compose/litellm.yaml", "model_list: []", (SERVICES, EXTENDS)),
    Case("service-twice", COMPOSE, "  - compose/models.yml", "  - compose/models.yml\n  - path: compose/models.yml",
         (SERVICES, EXTENDS)),
    Case("address-host", MODELS, "http://box-main:8000", "http://box-mian:8000", (MODELS, "box-mian")),
    Case("address-port", MODELS, "http://box-main:8000", "http://box-main:8001", (MODELS, "8001")),
    Case("address-port", SERVICES, "--served-model-name=main\n      - --port=8000",
         "--served-model-name=main\n      - --port=9000", (MODELS, "http://box-main:8000"), also=("health-path",)),
    Case("network", COMPOSE, "ports: [\"127.0.0.1:${PORT:-8009}:8009\"]\n    networks: [control, models]",
         "ports: [\"127.0.0.1:${PORT:-8009}:8009\"]\n    networks: [control]", (ENGINE, "networks: [models]")),
    Case("served-name", MODELS, "hosted_vllm/main", "hosted_vllm/Main", (MODELS, "hosted_vllm/Main")),
    Case("served-name", SERVICES, "      - --served-model-name=main\n", "", (MODELS, "hosted_vllm/main")),
    Case("weights-name", MODELS, "weights: example/main", "weights: example/Main", (MODELS, "weights: example/Main")),
    Case("tool-calls", MODELS, "max_input_tokens: 131072",
         "max_input_tokens: 131072\n      supports_function_calling: true",
         (MODELS, "supports_function_calling")),
    Case("context-length", MODELS, "max_input_tokens: 131072", "max_input_tokens: 131073", (MODELS, "131073")),
    Case("context-length", MODELS, "      max_input_tokens: 131072\n",
         "      max_input_tokens: 131072\n      request_rules: {context_length: 200000}\n", (MODELS, "200000")),
    Case("context-unused", SERVICES, "--max-model-len=131072", "--max-model-len=132k", (MODELS, "131072")),
    Case("context-unused", MODELS, "max_input_tokens: 131072", "max_input_tokens: 65536", (MODELS, "65536")),
    Case("context-unknown", MODELS, "      max_input_tokens: 131072\n", "", (MODELS, "model_info:")),
    Case("profile", SERVICES, "    profiles: [models]\n", "", (SERVICES, EXTENDS)),
    Case("profile", SERVICES, PULLED, "profiles: [models, models-built]", (SERVICES, "profiles: [models, "),
         also=("dockerfile-missing", "image-profile", "pull-policy")),
    Case("disabled-profile", MODELS, "      catalogue:\n        disabled: never worked here\n", "",
         (MODELS, "model_info:")),
    Case("disabled-profile", SERVICES, "models-disabled", "models-built", (SERVICES, "models-built")),
    Case("restart", ENGINE, 'restart: "no"', "restart: always", (ENGINE, "restart: always")),
    Case("published-port", SERVICES, NAME, NAME + '\n    ports: ["127.0.0.1:1:8000"]',
         (SERVICES, "ports")),
    Case("open-port", COMPOSE, PORT, '"${PORT:-8009}:8009"', (COMPOSE, "ports")),
    Case("open-port", COMPOSE, PORT, "{published: 8009, target: 8009}", (COMPOSE, "ports")),
    Case("hardening", SERVICES, NAME, NAME + "\n    privileged: true"),
    Case("hardening", SERVICES, NAME, NAME + "\n    pid: host"),
    Case("hardening", COMPOSE, "  cap_drop: [ALL]\n", ""),
    Case("hardening", ENGINE, "no-new-privileges:true", "no-new-privileges:false"),
    Case("docker-socket", COMPOSE, '"./litellm_config.yaml:/etc/hearth/litellm_config.yaml:ro"',
         '"/run/docker.sock:/run/docker.sock"', (COMPOSE, "volumes")),
    Case("gpu-missing", ENGINE, "capabilities: [gpu]", "capabilities: [video]", (ENGINE, "deploy")),
    Case("init", ENGINE, "    init: true\n", ""),
    Case("log-size", ENGINE, "    logging: {driver: json-file, options: {max-size: 10m}}\n", ""),
    Case("log-size", ENGINE, "options: {max-size: 10m}", "options: {}", (ENGINE, "logging")),
    Case("unknown-engine", SERVICES, "      - vllm\n      - serve", "      - my-engine\n      - serve",
         (SERVICES, "command"),
         also=("flag-unused",)),
    Case("health-path", MODELS, "memory: 80GiB}", "memory: 80GiB, health_path: /healthz}", (MODELS, "/healthz")),
    Case("health-path", ENGINE, "8000/health", "8000/status", (ENGINE, "healthcheck")),
    Case("health-path", ENGINE, "127.0.0.1:8000", "127.0.0.1:8080", (ENGINE, "healthcheck")),
    Case("health-check", SERVICES, NAME, NAME + "\n    healthcheck: {disable: true}",
         (SERVICES, "healthcheck")),
    Case("start-period", ENGINE, "start_period: 30m", "start_period: 10m", (ENGINE, "healthcheck")),
    Case("start-timeout", SERVICES, NAME, NAME + "\n    healthcheck: {start_period: 90m}",
         (MODELS, "box-main, memory")),
    Case("stop-grace", ENGINE, "    stop_grace_period: 30s\n", ""),
    Case("idle-timeout", MODELS, "memory: 80GiB}", "memory: 80GiB, idle_timeout: 20s}", (MODELS, "idle_timeout")),
    Case("variable-unset", SERVICES, IMAGE, "own-vllm${NOWHERE}", (SERVICES, "NOWHERE")),
    Case("variable-required", SERVICES, IMAGE, "${MAIN_IMAGE:?is wanted}own-vllm", (SERVICES, "is wanted")),
    Case("image-missing", COMPOSE, "    image: example/router:1.0\n", ""),
    Case("image-entrypoint", SERVICES, "- vllm\n      - serve", "- serve", (SERVICES, "command:\n      - serve")),
    Case("image-entrypoint", FACTS, "flags: {", "entrypoint: vllm\n    flags: {", (SERVICES, "command")),
    Case("image-entrypoint", FACTS, "flags: {", "engine: sglang\n    flags: {", (SERVICES, "command")),
    Case("image-unpinned", COMPOSE, "router:1.0", "router", (COMPOSE, "image: example/router")),
    Case("image-unpinned", COMPOSE, "router:1.0", "router:latest", (COMPOSE, "router:latest")),
    Case("image-unpinned", SERVICES, f"example/sglang:0.5@{DIGEST}", "example:5000/sglang",
         (SERVICES, "example:5000")),
    Case("image-profile", SERVICES, "models-built", "models", (SERVICES, PULLED)),
    Case("dockerfile-missing", SERVICES, IMAGE, "own-vllm-2", (SERVICES, "own-vllm-2"), also=("flag-unused",)),
    Case("dockerfile-missing", RECIPES, "own-vllm/Dockerfile", "elsewhere/Dockerfile", (SERVICES, "image: local/own")),
    Case("dockerfile-missing", COMPOSE, "image: example/router:1.0", "build: {context: ., dockerfile: Nowhere}"),
    Case("pull-policy", SERVICES, "    pull_policy: never\n    volumes: [\"cache-main:/cache\"]\n    command:\n",
         "    volumes: [\"cache-main:/cache\"]\n    command:\n", (SERVICES, "MAIN_IMAGE")),
    Case("weights-mount", SERVICES, "--download-dir=/models", "--download-dir=/data"),
    Case("weights-mount", SERVICES, "serve /models/broken", "serve /opt/broken"),
    Case("weights-mount", SERVICES, "      HF_HUB_CACHE: /models", "      HF_HUB_CACHE: /tmp/hub"),
    Case("weights-mount", ENGINE, "- weights:/models", "- weights:/weights"),
    Case("cache-mount", ENGINE, "/cache/triton", "/tmp/triton"),
    Case("cache-mount", ENGINE, "      FLASHINFER_WORKSPACE_BASE: /cache\n", ""),
    Case("cache-mount", SERVICES, "HF_HUB_CACHE: /models",
         "HF_HUB_CACHE: /models\n      TORCH_EXTENSIONS_DIR: /tmp/torch"),
    Case("cache-mount", ENGINE, "- hub:/hub", "- hub:/huggingface"),
    Case("cache-shared", SERVICES, "cache-helper:/cache", "cache-main:/cache"),
    Case("volume-undeclared", COMPOSE, "  cache-helper:\n", "", (SERVICES, "cache-helper")),
    Case("mount-source", COMPOSE, "./litellm_config.yaml:", "./no-such-file.yaml:", (COMPOSE, "no-such-file")),
    Case("memory-share", SERVICES, "      - --gpu-memory-utilization=0.80\n", ""),
    Case("memory-claim", SERVICES, "--gpu-memory-utilization=0.80", "--gpu-memory-utilization=0.81",
         (MODELS, "80GiB")),
    Case("memory-claim", MODELS, "memory: 6GiB", "memory: 4GiB", (MODELS, "4GiB")),
    Case("memory-slack", SERVICES, "--gpu-memory-utilization=0.80", "--gpu-memory-utilization=0.70",
         (MODELS, "80GiB")),
    Case("memory-beside", MODELS, "memory: 80GiB", "memory: 85GiB", (MODELS, "85GiB"), also=("memory-slack",)),
    Case("memory-utilities", MODELS, "memory: 80GiB", "memory: 85GiB, role: utility", (MODELS, "85GiB"),
         also=("memory-slack",)),
    Case("prompt-logging", SERVICES, "- --own-option", "- --own-option\n      - --enable-log-requests"),
    Case("prompt-logging", SERVICES, "--model-path=example/helper",
         "--model-path=example/helper\n      - --log-requests",
         also=("flag-unlisted",)),
    Case("prompt-logging", ENGINE, "HF_HOME: /hub",
         'HF_HOME: /hub\n      VLLM_DEBUG_LOG_API_SERVER_RESPONSE: "true"'),
    Case("prompt-logging", CONFIG, "message_logging: true", "message_logging: false", (CONFIG, "turn_off")),
    Case("prompt-logging", CONFIG, "  turn_off_message_logging: true", "  drop_params: false"),
    Case("prompt-logging", CONFIG, "general_settings:\n", "general_settings:\n  store_prompts_in_spend_logs: true\n",
         (CONFIG, "store_prompts")),
    Case("secret", CONFIG, "os.environ/LITELLM_MASTER_KEY", "sk-1234", (CONFIG, "sk-1234")),
    Case("secret", MODELS, "api_base: http://box-main:8000/v1",
         "api_base: http://box-main:8000/v1\n      api_key: abc",
         (MODELS, "api_key")),
    Case("secret", COMPOSE, "${LITELLM_MASTER_KEY:?needs a value}", "${LITELLM_MASTER_KEY:-sk-1234}",
         (COMPOSE, "sk-1234")),
    Case("secret", ENGINE, "HF_HOME: /hub", "HF_HOME: /hub\n      HF_TOKEN: hf_abc", (ENGINE, "HF_TOKEN")),
    Case("secret", SERVICES, "- --own-option", "- --own-option\n      - --api-key=abc",
         (SERVICES, "command:\n      - vllm")),
    Case("flag-unlisted", SERVICES, "--context-length=32768", "--context-length=32768\n      - --contxt=1"),
    Case("flag-twice", SERVICES, "--max-model-len=131072", "--max-model-len=1\n      - --max_model_len=131072"),
    Case("flag-unused", SERVICES, "      - --own-option\n", ""),
]  # fmt: skip
#: What only vLLM's parser can say: tests/unit/test_check_engine_flags.py.
OF_THE_PARSER = {"engine-flag", "engine-value", "flag-known"}


@pytest.fixture
def box(tmp_path: Path) -> Path:
    plant(tmp_path)
    return tmp_path


def findings(box: Path, environment: dict[str, str] | None = None) -> list[Finding]:
    return run(box / CONFIG, None, ENVIRONMENT if environment is None else environment, None).findings


def test_nothing_is_found_where_nothing_is_wrong(box: Path) -> None:
    assert findings(box) == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.code}-{CASES.index(case)}")
def test_one_thing_that_is_broken_is_found_and_nothing_else(box: Path, case: Case) -> None:
    edit(box, case.file, case.old, case.new)
    found = findings(box)
    assert {finding.code for finding in found} == {case.code, *case.also}
    for finding in found:
        assert finding.severity is CODES[finding.code].severity
        assert finding.message
        assert finding.action
    if case.where is not None:
        name, text = case.where
        whole = (box / name).read_text(encoding="utf-8")
        lines = {
            f"{box / name}:{whole[:at].count(chr(10)) + 1}" for at in range(len(whole)) if whole.startswith(text, at)
        }
        assert {finding.where for finding in found if finding.code == case.code} <= lines


def test_litellms_own_keys_are_not_taken_for_misspelled_ones(box: Path) -> None:
    known = {
        "model_info": {*ModelInfo.model_fields, *ModelInfoBase.__annotations__},
        "litellm_params": {*LiteLLM_Params.model_fields},
        "general_settings": {*ConfigGeneralSettings.model_fields},
    }
    document = yaml.safe_load((box / CONFIG).read_text(encoding="utf-8"))
    entry = {"model_name": "other", "litellm_params": dict.fromkeys(known["litellm_params"] - {"api_base"}),
             "model_info": dict.fromkeys(known["model_info"])}  # fmt: skip
    document["model_list"] = [entry]
    document["general_settings"] = dict.fromkeys(known["general_settings"]) | document["general_settings"]
    (box / CONFIG).write_text(yaml.safe_dump(document), encoding="utf-8")
    assert "unknown-key" not in {finding.code for finding in findings(box)}


def test_every_kind_of_finding_is_tried() -> None:
    assert {case.code for case in CASES} | OF_THE_PARSER == set(CODES)


def test_the_shipped_configuration_has_neither_errors_nor_warnings() -> None:
    outcome = run(ROOT / CONFIG, None, {}, None)
    assert [finding for finding in outcome.findings if finding.severity is not Severity.HINT] == []
    assert outcome.models == outcome.services >= 3


def test_the_demo_has_no_findings() -> None:
    outcome = run(ROOT / "examples/demo.yaml", None, {}, None)
    assert (outcome.findings, outcome.models, outcome.compose) == ([], 3, None)


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("--port, \"18101\"", "--port, \"18109\"", "address-port"),
        ("--served-model-name, demo-small", "--served-model-name, other", "served-name"),
        ("[python, -m, router.engine_simulator, --served-model-name, demo-small",
         "[some-engine, --served-model-name, demo-small", "unknown-engine"),
        ("memory: 20GiB\n", "memory: 20GiB\n        health_path: /up\n", "health-path"),
    ],
)  # fmt: skip
def test_engines_that_are_processes_are_checked_too(tmp_path: Path, old: str, new: str, code: str) -> None:
    (tmp_path / "demo.yaml").write_text((ROOT / "examples/demo.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    edit(tmp_path, "demo.yaml", old, new)
    assert [finding.code for finding in run(tmp_path / "demo.yaml", None, {}, None).findings] == [code]


def test_variables_of_the_shell_go_before_those_of_the_file(box: Path) -> None:
    (box / ".env").write_text("MAIN_IMAGE=from-file:1\n", encoding="utf-8")
    codes = {finding.code for finding in findings(box)}
    assert codes == {"dockerfile-missing", "flag-unused"}
    assert findings(box, ENVIRONMENT | {"MAIN_IMAGE": "own-vllm"}) == []


def test_a_key_that_compose_insists_on_is_only_a_hint(box: Path) -> None:
    (found,) = findings(box, {})
    assert (found.code, found.severity) == ("variable-required", Severity.HINT)
    assert "LITELLM_MASTER_KEY" in found.message


def hearth(box: Path, *arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["check", "--config", str(box / CONFIG), *arguments], env=ENVIRONMENT)
    return result.exit_code, result.stdout, result.stderr


def test_the_configuration_may_be_named_by_its_variable(box: Path) -> None:
    result = CliRunner().invoke(app, ["check"], env={**ENVIRONMENT, "HEARTH_CONFIG": str(box / CONFIG)})
    assert result.exit_code == 0, result.output
    assert "3 models" in result.output


def test_the_exit_code_tells_errors_from_warnings_from_what_cannot_be_read(box: Path) -> None:
    assert hearth(box)[0] == 0
    edit(box, ENGINE, "    init: true\n", "")
    assert hearth(box)[0] == 0
    assert hearth(box, "--strict")[0] == 1
    edit(box, ENGINE, 'restart: "no"', "restart: always")
    assert hearth(box)[0] == 1
    for old, new, said in (
        ("  - compose/litellm.yaml", "  - compose/none.yaml", "none.yaml: cannot be read"),
        ("  - compose/none.yaml", "  - [", "is not YAML"),
    ):
        edit(box, CONFIG, old, new)
        code, _, message = hearth(box)
        assert code == 2
        assert said in message


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        (COMPOSE, "compose/models.yml", "compose/none.yml", "none.yml: cannot be read"),
        (COMPOSE, "services:\n", "services: [\n", "is not YAML"),
        (COMPOSE, "${PORT:-8009}", "${PORT:-8009", "not closed"),
        (SERVICES, "container_name: box-main", "stop_grace_period: soon", "is not a duration"),
        (COMPOSE, "compose/models.yml", "docker-compose.yml", "includes itself"),
        (ENGINE, '    restart: "no"', "    extends: engine", "extends itself"),
        (ENGINE, '    restart: "no"', "    extends: motor", "extends 'motor', which is not in"),
        (FACTS, "flags:", "flaggs:", "engine-flags.yaml"),
    ],
)
def test_files_that_cannot_be_read_end_it(box: Path, file: str, old: str, new: str, said: str) -> None:
    edit(box, file, old, new)
    code, out, message = hearth(box)
    assert (code, out) == (2, "")
    assert said in message


JUNK = [None, 5, -1.5, True, "", "x", "${", [], [1], [None], [[]], {}, {"a": 1}, {"a": None}]


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each value within a document."""
    yield path
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in below:
        yield from paths(item, (*path, key))


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_nonsense_anywhere_is_a_finding_or_one_clear_error(box: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([name for name in FILES if name.endswith(("l", ".json"))]))
    document = {"": yaml.safe_load(FILES[name])}  # JSON is YAML
    *way, last = data.draw(st.sampled_from([*paths(document)][1:]))
    inner = functools.reduce(operator.getitem, way, document)
    inner[last] = data.draw(st.sampled_from(JUNK))
    (box / name).write_text(json.dumps(document[""]), encoding="utf-8")
    try:
        with contextlib.suppress(ConfigError):
            findings(box)
    finally:
        (box / name).write_text(FILES[name], encoding="utf-8")


def test_a_compose_file_that_is_named_must_be_there(box: Path) -> None:
    assert hearth(box, "--compose", str(box / "none.yml"))[0] == 2
    (box / COMPOSE).rename(box / "other.yml")
    assert "no Compose file" in hearth(box)[1]
    assert "3 services of" in hearth(box, "--compose", str(box / "other.yml"))[1]


def test_json_has_the_counts_and_all_of_each_finding(box: Path) -> None:
    edit(box, ENGINE, "    init: true\n", "")
    code, out, _ = hearth(box, "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["errors"], found["warnings"], found["hints"]) == (0, 3, 0)
    assert (found["models"], found["services"], found["vllm"]) == (3, 3, None)
    assert found["compose"] == str(box / COMPOSE)
    assert set(found["findings"][0]) == {"severity", "code", "where", "message", "action"}


def test_the_table_says_where_what_and_what_to_do(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    edit(box, ENGINE, 'restart: "no"', "restart: always")
    edit(box, ENGINE, "    init: true\n", "")
    _, out, _ = hearth(box)
    assert out.index("3 errors") < out.index("3 warnings")
    assert f"{box / ENGINE}:3" in out
    assert "box-main: restart is always" in out
    assert out.count('Set `restart: "no"`.') == 1
    assert "3 errors, 3 warnings, 0 hints. 3 models; 3 services of" in out


def test_a_python_without_vllm_is_refused(box: Path) -> None:
    empty = {**ENVIRONMENT, "PYTHONPATH": str(box)}
    (box / "vllm.py").write_text("raise ImportError('none here')\n", encoding="utf-8")
    result = CliRunner().invoke(app, ["check", "--config", str(box / CONFIG), "--vllm", sys.executable], env=empty)
    assert result.exit_code == 2
    assert "vLLM's parser cannot be asked: there is no vLLM in this Python" in result.stderr
    assert "none here" in result.stderr
    assert hearth(box, "--vllm", os.devnull)[0] == 2
