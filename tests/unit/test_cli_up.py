"""What `hearth up` checks before anything starts, and what it tells."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from router import config as configuration
from router.cli.main import app
from router.cli.up import curl_line, first_chat_model, welcome
from router.supervisor.master_key import MasterKey
from router.supervisor.parts import Listening

ROOT = Path(__file__).parents[2]
LISTENING = Listening("127.0.0.1", 8009)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LITELLM_MASTER_KEY", raising=False)


def pasted(line: str) -> list[str]:
    """The arguments that curl gets when the line is run by a shell."""
    script = f'curl() {{ printf "%s\\0" "$@"; }}\n{line}'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.split("\0")[:-1]


@pytest.mark.parametrize("name", ["demo-small", 'it\'s a "model" $HOME `id` \\ é'])
def test_the_curl_line_survives_the_shell(tmp_path: Path, name: str) -> None:
    file = tmp_path / "it's the key"
    file.write_text("sk-secret\n")
    arguments = pasted(curl_line(LISTENING, MasterKey("sk-secret", file), name))
    assert arguments[0] == "http://127.0.0.1:8009/v1/chat/completions"
    assert arguments[2] == "Authorization: Bearer sk-secret"
    assert json.loads(arguments[-1])["model"] == name


def test_a_key_from_the_environment_stays_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITELLM_MASTER_KEY", "sk-from-outside")
    text = welcome(LISTENING, MasterKey("sk-from-outside", None), "demo")
    assert "sk-from-outside" not in text
    line = next(line for line in text.splitlines() if line.startswith("curl "))
    assert "Authorization: Bearer sk-from-outside" in pasted(line)


def test_an_open_address_is_told_and_reached_by_loopback() -> None:
    text = welcome(Listening("0.0.0.0", 8009), MasterKey("sk", None), None)
    assert "Other machines can reach it" in text
    assert "http://127.0.0.1:8009/v1" in text
    assert Listening("::1", 80).address == "[::1]:80"


def test_the_first_model_that_can_chat_is_shown() -> None:
    lifecycle = {"memory": "1GiB", "command": ["x"]}
    document = {
        "general_settings": {"lifecycle": {"runtime": "process", "gpus": {"0": {"memory": "10GiB"}}}},
        "model_list": [
            {"model_name": "far away"},
            *(
                {
                    "model_name": name,
                    "litellm_params": {"api_base": f"http://127.0.0.1:{port}/v1"},
                    "model_info": {"mode": mode, "lifecycle": lifecycle},
                }
                for port, (name, mode) in enumerate([("numbers", "embedding"), ("talker", "chat")], start=1)
            ),
        ],
    }
    assert first_chat_model(document, configuration.parse(document)) == "talker"


def test_the_demo_is_a_valid_configuration() -> None:
    config = configuration.load(ROOT / "examples" / "demo.yaml")
    small, medium, large = config.models.values()
    gpu = config.settings.gpus["0"]
    room = gpu.memory - gpu.reserve
    assert small.memory + medium.memory <= room
    assert large.memory <= room < large.memory + small.memory
    assert len({spec.health_url for spec in config.models.values()}) == 3


def up(config: Path, *arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["up", "--config", str(config), *arguments])
    return done.exit_code, done.stderr


def test_a_wrong_configuration_starts_nothing(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("general_settings: {lifecycle: {gpus: {'0': {memory: 1GiB}}, idle_timeot: 3}}")
    code, said = up(config)
    assert code == 2
    assert "general_settings.lifecycle.idle_timeot: is not a known key; did you mean 'idle_timeout'?" in said
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_a_key_written_into_the_configuration_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("general_settings: {master_key: sk-open, lifecycle: {gpus: {'0': {memory: 1GiB}}}}")
    code, said = up(config)
    assert code == 2
    assert said.startswith("general_settings.master_key:")
    assert "sk-open" not in said


def test_a_model_that_never_fits_is_told_and_stops_nothing(tmp_path: Path) -> None:
    demo = (ROOT / "examples" / "demo.yaml").read_text()
    config = tmp_path / "config.yaml"
    config.write_text(demo.replace("memory: 95GiB", "memory: 195GiB"))
    with socket.create_server(("127.0.0.1", 0)) as taken:  # so that it ends
        code, said = up(config, "--port", str(taken.getsockname()[1]))
    assert code == 1
    fault, port = said.splitlines()
    assert fault.endswith("195.0 GiB never fits GPU 0, which has 111.0 GiB for models; requests for it are refused")
    assert "is in use" in port


def test_a_port_in_use_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = up(ROOT / "examples" / "demo.yaml", "--port", str(port), "--state-dir", str(tmp_path / "state"))
    assert code == 1
    assert said == (
        f"Port {port} on 127.0.0.1 is in use by another program. Stop it, or choose another port with --port.\n"
    )
    assert not (tmp_path / "state").exists()
