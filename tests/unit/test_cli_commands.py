"""The commands against a small real HTTP server that plays the gateway."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from typer.testing import CliRunner, Result

from router.cli import server
from router.cli.main import app
from router.supervisor.running_server import RunningServer

KEY = "sk-for-the-stub-server"


def model(name: str, **fields: Any) -> dict[str, Any]:
    return {
        "name": name, "phase": "asleep", "since": 0.0, "in_flight": 0, "waiting": 0, "gpus": ["0"],
        "memory": 20 * 2**30, "role": "normal", "pinned": False, "idle_timeout": 120.0,
        "stops_at": None, "expected_seconds": None, "at_most_seconds": 0.0,
        "load_seconds": None, "unload_seconds": None, "failures": 0, "retry_at": None, "error": "", "log": [],
    } | fields  # fmt: skip


class Stub(ThreadingHTTPServer):
    """Answers like the lifecycle API. phases: what `models` shows, one entry a look, the last one from then on."""

    daemon_threads = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.looks: list[list[dict[str, Any]]] = [[model("small")]]
        self.gpus = [{"name": "0", "room": 111 * 2**30, "claimed": 40 * 2**30}]
        self.cards: list[dict[str, Any]] = []
        self.requests: list[dict[str, Any]] = []
        self.refusal: tuple[int, dict[str, Any]] | None = None
        self.asked: list[tuple[str, str, dict[str, str], str]] = []
        self.events = b""
        self.history = b""


class Handler(BaseHTTPRequestHandler):
    server: Stub

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_DELETE(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def _answer(self) -> None:
        stub, parts = self.server, urlsplit(self.path)
        stub.asked.append((self.command, parts.path, dict(parse_qsl(parts.query)), self.headers["Authorization"] or ""))
        if stub.refusal:
            self._send(stub.refusal[0], json.dumps(stub.refusal[1]).encode())
        elif parts.path == "/lifecycle/models":
            look = stub.looks.pop(0) if len(stub.looks) > 1 else stub.looks[0]
            gpus = stub.gpus
            view = {"now": 1000.0, "trouble": "", "acting": True, "gpus": gpus, "models": look}
            self._send(200, json.dumps(view).encode())
        elif parts.path == "/lifecycle/catalogue":
            self._send(200, json.dumps({"cards": stub.cards}).encode())
        elif parts.path == "/v1/models":
            self._send(
                200, json.dumps({"object": "list", "data": [{"id": card["name"]} for card in stub.cards]}).encode()
            )
        elif parts.path == "/lifecycle/requests":
            self._send(200, json.dumps({"requests": stub.requests}).encode())
        elif parts.path == "/lifecycle/events":
            self._send(200, stub.events)
        elif parts.path == "/lifecycle/history":
            self._send(200, stub.history)
        elif parts.path.endswith("/logs"):
            self._send(200, b"first line\nlast line\n")
        else:
            name, action = parts.path.split("/")[-2:]
            self._send(200, json.dumps({"model": name, "action": action, "message": "It was heard."}).encode())

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def stub() -> Iterator[Stub]:
    server = Stub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [*os.environ]:
        if name.startswith(("HEARTH_", "LITELLM_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("COLUMNS", "200")


def hearth(stub: Stub, *arguments: str, key: str | None = KEY) -> Result:
    environment = {"HEARTH_URL": stub.url} | ({"HEARTH_API_KEY": key} if key else {})
    return CliRunner().invoke(app, list(arguments), env=environment)


def test_status_shows_models_memory_and_the_line(stub: Stub) -> None:
    stub.looks = [[
        model("small", phase="ready", since=940.0, in_flight=2, waiting=1, stops_at=None),
        model("quiet", phase="ready", since=900.0, stops_at=1090.0),
        model("broken", phase="failed", since=990.0, error="it ended while it loaded (exit code 3)", retry_at=1030.0),
    ]]  # fmt: skip
    common = {"id": "a", "model": "small", "stream": True, "alias": "ada"}
    stub.requests = [
        common | {"state": "running", "position": 0, "seconds": 4.0},
        common | {"state": "waiting", "position": 1, "seconds": 75.0, "expected_seconds": 12.0},
    ]
    shown = hearth(stub, "status")
    assert shown.exit_code == 0, shown.output
    rows = {line.split()[0]: line for line in shown.stdout.splitlines() if line}
    assert "in use" in rows["small"]
    assert "1m30s" in rows["quiet"]
    assert "it ended while it loaded (exit code 3); may be tried again in 30s" in shown.stdout
    assert "GPU 0: 40.0 GiB of 111.0 GiB claimed" in shown.stdout
    assert rows["runs"].split()[1:] == ["small", "ada", "4.0s"]
    assert "1m15s" in rows["1"]
    assert "in about 12s" in rows["1"]


def test_status_json_has_all_of_both_views(stub: Stub) -> None:
    shown = json.loads(hearth(stub, "status", "--json").stdout)
    assert [entry["name"] for entry in shown["models"]] == ["small"]
    assert shown["requests"] == []
    assert shown["acting"] is True


def test_models_in_a_table_and_as_json(stub: Stub) -> None:
    stub.looks = [[model("small", load_seconds=62.0)]]
    assert "1m02s" in hearth(stub, "models").stdout
    assert json.loads(hearth(stub, "models", "--json").stdout)[0]["load_seconds"] == 62.0


def card(name: str, context: int, **catalogue: Any) -> dict[str, Any]:
    able = {"tools": True, "vision": False, "reasoning": True}
    return {"name": name, "context": context, **able, "catalogue": catalogue}


def test_models_have_their_catalogue_beside_what_they_do(stub: Stub) -> None:
    problem = {"client": "OpenCode", "problem": "talks too much", "instead": "large"}
    stub.cards = [
        card("small", 32768, family="qwen3", experimental=True, known_problems=[problem]),
        card("large", 131072, family="glm", experimental=False),
        card("old", 4096, family="qwen2.5", disabled="it is gone"),
        card("huge", 4096) | {"too_large": "90.0 GiB never fits GPU 0"},
    ]
    stub.looks = [[model("small", phase="ready"), model("large"), model("bare")]]
    shown = hearth(stub, "models").stdout
    rows = {line.split()[0]: line.split() for line in shown.splitlines()}
    assert rows["large"] == ["large", "glm", "proven", "131,072", "yes", "no", "yes", "asleep", "normal", "20.0", "GiB"]
    assert rows["bare"] == ["bare", "experimental", "asleep", "normal", "20.0", "GiB"]
    assert "small qwen3 experimental 32,768 yes no yes ready normal 20.0 GiB OpenCode" in " ".join(shown.split())
    assert "old qwen2.5 disabled 4,096 yes no yes" in " ".join(shown.split())
    assert "old is disabled: it is gone" in shown
    assert "huge is not served: 90.0 GiB never fits GPU 0" in shown
    assert "small with OpenCode: talks too much; instead: large" in shown


def test_models_are_never_cut_off_and_empty_columns_are_left_out(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    name = "a-name-that-is-longer-than-the-terminal-is-wide-and-more"
    stub.looks = [[model(name)]]
    heading, row = hearth(stub, "models").stdout.splitlines()
    assert heading.split() == ["MODEL", "STATUS", "PHASE", "ROLE", "MEMORY"]
    assert row.split() == [name, "experimental", "asleep", "normal", "20.0", "GiB"]


def test_models_of_one_family_or_of_all_that_begin_so(stub: Stub) -> None:
    stub.cards = [card("a", 1, family="qwen3"), card("b", 1, family="qwen3.6"), card("c", 1, family="glm")]
    stub.looks = [[model("a"), model("b"), model("c")]]

    def names(family: str) -> list[str]:
        return [each["name"] for each in json.loads(hearth(stub, "models", "--family", family, "--json").stdout)]

    assert names("qwen3") == ["a"]
    assert names("qwen") == ["a", "b"]
    refused = hearth(stub, "models", "--family", "nothing")
    assert refused.exit_code == 1
    assert "there are: qwen3, qwen3.6, glm" in refused.stderr


_FILE = """
general_settings: {lifecycle: {gpus: {"0": {memory: 24GiB}}}}
model_list:
  - model_name: here
    litellm_params: {api_base: http://here:8000/v1}
    model_info:
      max_input_tokens: 8192
      lifecycle: {container: here, memory: 3GiB}
      catalogue: {family: tests, good_for: [maths]}
"""


def test_models_of_the_file_alone_when_no_server_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "litellm_config.yaml").write_text(_FILE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("router.cli.server.DEFAULT_URL", "http://127.0.0.1:1")
    shown = CliRunner().invoke(app, ["models", "--json"])
    (entry,) = json.loads(shown.stdout)
    assert (entry["name"], entry["context"], entry["status"], entry["memory"]) == (
        "here",
        8192,
        "experimental",
        3 * 2**30,
    )
    assert entry["phase"] is None
    assert "No server at http://127.0.0.1:1" in shown.stderr
    assert "litellm_config.yaml" in shown.stderr


def test_a_server_that_was_named_must_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "litellm_config.yaml").write_text(_FILE)
    monkeypatch.chdir(tmp_path)
    shown = CliRunner().invoke(app, ["models", "--url", "http://127.0.0.1:1"])
    assert (shown.exit_code, shown.stdout) == (1, "")


def test_models_of_a_named_file_ask_no_server(stub: Stub, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(_FILE)
    assert "here" in hearth(stub, "models", "--config", str(tmp_path / "mine.yaml")).stdout
    assert stub.asked == []
    (tmp_path / "mine.yaml").write_text(_FILE.replace("maths", "mathematics"))
    refused = hearth(stub, "models", "--config", str(tmp_path / "mine.yaml"))
    assert refused.exit_code == 2
    assert "good_for.0" in refused.stderr


def test_models_memory_holds_what_is_declared_against_what_was_measured(stub: Stub) -> None:
    gib = 2**30
    stub.looks = [[
        model("right", memory=98 * gib, measured_memory=97 * gib, declaration="fits"),
        model("greedy", memory=6 * gib, measured_memory=9 * gib, declaration="too low"),
        model("modest", memory=96 * gib, measured_memory=40 * gib, declaration="too high"),
        model("new"),
    ]]  # fmt: skip
    stub.gpus = [
        {
            "name": "0",
            "memory": 119 * gib,
            "reserve": 8 * gib,
            "room": 111 * gib,
            "claimed": 98 * gib,
            "free": 12 * gib,
        },
        {"name": "1", "memory": 24 * gib, "reserve": 0, "room": 24 * gib, "claimed": 0, "free": None},
    ]
    shown = hearth(stub, "models", "--memory")
    assert shown.exit_code == 0, shown.output
    rows = {line.split()[0]: line.split(maxsplit=1)[1].split() for line in shown.stdout.splitlines() if line.strip()}
    assert " ".join(rows["right"]) == "98.0 GiB 97.0 GiB -1.0 GiB fits"
    assert " ".join(rows["greedy"]) == "6.0 GiB 9.0 GiB +3.0 GiB too low"
    assert " ".join(rows["modest"]) == "96.0 GiB 40.0 GiB -56.0 GiB too high"
    assert " ".join(rows["new"]) == "20.0 GiB"
    assert " ".join(rows["0"]) == "119.0 GiB 8.0 GiB 111.0 GiB 98.0 GiB 12.0 GiB"
    assert " ".join(rows["1"]) == "24.0 GiB 0 MiB 24.0 GiB 0 MiB not measured"


def test_models_memory_as_json_has_the_gpus_too(stub: Stub) -> None:
    shown = json.loads(hearth(stub, "models", "--memory", "--json").stdout)
    assert [entry["name"] for entry in shown["models"]] == ["small"]
    assert shown["gpus"][0]["free"] is None


def test_models_that_are_kept_warm_say_why(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """In `status` where the idle countdown would be, within 80 columns; in `models` below the table."""
    monkeypatch.setenv("COLUMNS", "80")
    soon, later = (time.strftime(form, time.localtime(at)) for form, at in (("%H:%M", 5000.0), ("%a %H:%M", 64_800.0)))
    often = {"phase": "ready", "since": 100.0, "stops_at": None}
    stub.looks = [[
        model("first", **often, warm={"reason": "preload", "until": None}),
        model("second", **often, warm={"reason": "schedule", "until": 5000.0}),
        model("a-model-with-a-name-as-long-as-any", **often, warm={"reason": "schedule", "until": 64_800.0}),
        model("fourth", **often, in_flight=1, warm={"reason": "default", "until": None}),
        model("fifth", warm={"reason": "schedule", "until": 64_800.0}),
        model("sixth", **often),
    ]]  # fmt: skip
    shown = hearth(stub, "status").stdout
    rows = {line.split()[0]: line.rstrip() for line in shown.splitlines() if line}
    assert rows["first"].endswith("preload")
    assert rows["second"].endswith(f"until {soon}")
    assert [name for name, row in rows.items() if row.endswith(f"until {later}")] != []
    assert rows["fourth"].endswith("in use")
    assert rows["fifth"].endswith("schedule")
    assert rows["sixth"].endswith("never")
    assert max(map(len, shown.splitlines())) <= 80
    listed = hearth(stub, "models").stdout
    assert "first is to be kept warm: preload\n" in listed
    assert f"fifth is to be kept warm: schedule until {later}\n" in listed
    assert "sixth is" not in listed


@pytest.mark.parametrize("action", ["wake", "sleep", "touch", "pin", "unpin"])
def test_actions_are_posted_with_the_key(stub: Stub, action: str) -> None:
    done = hearth(stub, action, "small")
    assert (done.exit_code, done.stdout) == (0, "small: It was heard.\n")
    assert stub.asked == [("POST", f"/lifecycle/models/small/{action}", {}, f"Bearer {KEY}")]


def test_sleep_by_force(stub: Stub) -> None:
    hearth(stub, "sleep", "small", "--force")
    assert stub.asked[0][2] == {"force": "true"}


def test_names_with_slashes_and_odd_characters_stay_one_segment(stub: Stub) -> None:
    hearth(stub, "touch", "org/name ?#%é")
    assert stub.asked[0][1] == "/lifecycle/models/org%2Fname%20%3F%23%25%C3%A9/touch"


def test_wake_waits_until_the_model_is_ready(stub: Stub) -> None:
    failed_before = model("small", phase="failed", since=5.0, failures=1, error="old")
    starting = model("small", phase="starting", since=1000.0, failures=1)
    stub.looks = [[failed_before], [failed_before], [starting], [starting], [model("small", phase="ready")]]
    done = hearth(stub, "wake", "small", "--wait")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("small is ready, after ")
    assert done.stderr.splitlines() == ["small is failed", "small is starting"]


def test_wake_tells_why_the_model_failed(stub: Stub) -> None:
    stub.looks = [[model("small")], [model("small", phase="failed", failures=1, since=9.0, error="out of memory")]]
    done = hearth(stub, "wake", "small", "--wait")
    assert done.exit_code == 1
    assert "out of memory" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_waiting_has_a_limit(stub: Stub) -> None:
    done = hearth(stub, "wake", "small", "--wait", "--timeout", "0s")
    assert done.exit_code == 1
    assert "gave up waiting" in done.stderr


def test_sleep_waits_until_the_model_sleeps(stub: Stub) -> None:
    stub.looks = [[model("small", phase="ready")], [model("small", phase="draining", in_flight=2)], [model("small")]]
    done = hearth(stub, "sleep", "small", "--wait")
    assert done.stdout.startswith("small is asleep, after ")
    assert done.stderr.splitlines() == ["small is draining: 2 running"]


def test_logs_are_printed_as_they_are(stub: Stub) -> None:
    assert hearth(stub, "logs", "small", "--lines", "2").stdout == "first line\nlast line\n"
    assert stub.asked[0][1:3] == ("/lifecycle/models/small/logs", {"lines": "2"})


def test_events_as_lines_and_as_json(stub: Stub) -> None:
    stub.events = (
        b': nothing new\n\nid: 1-0\nevent: ready\ndata: {"event": "ready", "model": "small", "at": 1.5,'
        b' "detail": "after 3.0s"}\n\n'
    )
    shown = hearth(stub, "events", "--no-follow", "--recent", "5")
    assert shown.exit_code == 0
    assert shown.stdout.split()[1:] == ["ready", "small", "after", "3.0s"]
    assert stub.asked[0][2] == {"recent": "5", "follow": "false"}
    as_json = json.loads(hearth(stub, "events", "--no-follow", "--json").stdout)
    assert (as_json["id"], as_json["at"], as_json["detail"]) == ("1-0", 1.5, "after 3.0s")


def test_an_event_stream_that_ends_is_an_error_when_it_was_to_be_followed(stub: Stub) -> None:
    done = hearth(stub, "events")
    assert (done.exit_code, done.stderr) == (1, "The server has ended the stream.\n")


def test_history_is_printed_as_it_is(stub: Stub) -> None:
    stub.history = b'{"model": "small"}\n{"model": "large"}\n'
    assert hearth(stub, "history", "--since", "7d").stdout.encode() == stub.history
    assert stub.asked[0][1:3] == ("/lifecycle/history", {"seconds": "604800.0"})
    hearth(stub, "history")
    assert stub.asked[1][2] == {}


def test_simulate_takes_what_the_server_has_learned(stub: Stub, tmp_path: Path) -> None:
    stub.looks = [[model("demo-small", load_seconds=5.0, service_seconds=2.0), model("demo-large", load_seconds=33.0)]]
    config = Path(__file__).parents[2] / "examples" / "demo.yaml"
    common = ["simulate", "--config", str(config), "--arrivals-per-minute", "1", "--hours", "1", "--policy", "hearth"]
    shown = hearth(stub, *common)
    assert shown.exit_code == 0, shown.output
    assert f"Loads measured by {stub.url}: demo-small, demo-large." in shown.stdout
    assert "Loads assumed to take 60 s: demo-medium." in shown.stdout
    known, assumed = (json.loads(hearth(stub, *common, "--json", "--url", url).stdout)[0]["load_seconds"]
                      for url in (stub.url, "http://127.0.0.1:1"))  # fmt: skip
    assert known < assumed


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (401, {"error": {"message": "bad key"}}, "does not accept the key from HEARTH_API_KEY"),
        (403, {"detail": "This needs the admin key."}, "This needs the admin key."),
        (404, {"detail": "There is no model 'x'."}, "There is no model 'x'."),
        (409, {"detail": "Wake it instead."}, "Wake it instead."),
        (503, {"detail": "The router does\nnot answer"}, "Not available now: The router does not answer"),
        (422, {"detail": [{"loc": ["query", "name"], "msg": "Too long", "input": "x"}]}, "422: name: Too long\n"),
        (422, {"detail": ["odd"]}, "The server answered 422"),
        (500, {}, "The server answered 500"),
    ],
)
@pytest.mark.parametrize("command", [["pin", "x"], ["status"], ["events"], ["logs", "x"], ["history"]])
def test_each_refusal_is_one_line(stub: Stub, command: list[str], status: int, body: dict[str, Any], said: str) -> None:
    stub.refusal = (status, body)
    done = hearth(stub, *command)
    assert done.exit_code == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert KEY not in done.output


def test_a_missing_key_is_told(stub: Stub) -> None:
    stub.refusal = (401, {})
    assert "set HEARTH_API_KEY" in hearth(stub, "status", key=None).stderr


def test_an_answer_of_something_else_is_told(stub: Stub) -> None:
    stub.looks = [[{"name": "small"}]]
    assert "cannot be read" in hearth(stub, "status").stderr


def test_no_server_is_told() -> None:
    done = CliRunner().invoke(app, ["status", "--url", "http://127.0.0.1:1"])
    assert done.exit_code == 1
    assert done.stderr.startswith("No server at http://127.0.0.1:1.")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("arguments", [["wake"], ["status", "--watch", "--json"], ["wake", "x", "--timeout", "soon"]])
def test_wrong_usage_is_code_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, arguments).exit_code == 2


def test_the_running_server_and_its_key_are_found_without_flags(stub: Stub, tmp_path: Path) -> None:
    key_file = tmp_path / "master-key"
    key_file.touch(mode=0o600)
    key_file.write_text("sk-from-the-file\n")
    note = RunningServer(stub.url, str(key_file), os.getpid())
    note.publish()
    assert CliRunner().invoke(app, ["status"]).exit_code == 0
    assert stub.asked[0][3] == "Bearer sk-from-the-file"
    key_file.chmod(0o644)
    refused = CliRunner().invoke(app, ["status"])
    assert refused.exit_code == 1
    assert "chmod 600" in refused.stderr
    note.withdraw()
    assert not [path for path in (tmp_path / "xdg").rglob("*") if path.is_file()]


def test_a_key_file_is_never_sent_to_another_server(stub: Stub, tmp_path: Path) -> None:
    key_file = tmp_path / "master-key"
    key_file.touch(mode=0o600)
    key_file.write_text("sk-from-the-file\n")
    RunningServer("http://127.0.0.1:1", str(key_file), os.getpid()).publish()
    hearth(stub, "status", key=None)
    assert [asked[3] for asked in stub.asked] == ["", ""]


def test_the_note_of_a_server_that_is_gone_counts_for_nothing(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "DEFAULT_URL", "http://127.0.0.1:1")  # at its own port somebody's Hearth may be running
    RunningServer(stub.url, None, 2**22 + 1).publish()
    done = CliRunner().invoke(app, ["status"])
    assert "No server at http://127.0.0.1:1." in done.stderr
    assert not stub.asked


def test_keys_where_another_keeps_them_is_a_matter_of_configuration(stub: Stub) -> None:
    stub.refusal = (501, {"detail": "LiteLLM has a database"})
    for command in (["list"], ["show"], ["create", "ada"], ["rotate", "ada"], ["revoke", "ada", "--yes"]):
        shown = hearth(stub, "keys", *command)
        assert (shown.exit_code, shown.stderr.strip()) == (2, "LiteLLM has a database"), command


def test_a_client_is_told_of_the_server_as_it_sees_it(
    stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    stub.cards = [card("small", 32768)]
    shown = hearth(stub, "client", "opencode", "--address", "http://box/")
    assert json.loads(shown.stdout)["provider"]["hearth"]["options"]["baseURL"] == "http://box/v1"
    assert not (tmp_path / "opencode").exists()
    path = tmp_path / "opencode" / "opencode.json"
    path.parent.mkdir()
    path.write_text("{} // theirs")
    refused = hearth(stub, "client", "opencode", "--write")
    assert (refused.exit_code, "comments in it would be lost" in refused.stderr) == (1, True)
    assert path.read_text() == "{} // theirs"
    path.write_text("{}")
    assert "opencode.json.before-1" in hearth(stub, "client", "opencode", "--write").stderr
    assert json.loads(path.read_text())["model"] == "hearth/small"


def test_the_admin_key_is_not_stored_for_a_client(stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLINE_DATA_DIR", str(tmp_path / "cline"))
    monkeypatch.setenv("LITELLM_MASTER_KEY", KEY)
    stub.cards = [card("small", 32768)]
    assert KEY not in hearth(stub, "client", "cline", key=None).output
    refused = hearth(stub, "client", "cline", "--write", key=None)
    assert (refused.exit_code, "hearth keys create" in refused.stderr) == (1, True)
    assert not (tmp_path / "cline").exists()
    assert hearth(stub, "client", "cline", "--write").exit_code == 0
    accounts = tmp_path / "cline" / "settings" / "providers.json"
    assert (KEY in accounts.read_text(), accounts.stat().st_mode & 0o077) == (True, 0)


def test_a_client_without_models_is_refused(stub: Stub) -> None:
    stub.cards = [card("small", 32768, known_problems=[{"client": "any", "problem": "fails", "instead": "nothing"}])]
    refused = hearth(stub, "client", "env")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "small: it fails; instead: nothing" in refused.stderr
