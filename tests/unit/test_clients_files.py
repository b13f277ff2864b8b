"""The clients' files: what is written into them, what is kept, and who may read them."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from router.clients import cline, opencode, saved, variables
from router.clients.offer import Model, Offer
from router.clients.saved import NotOurs, SavedFile

pytestmark = pytest.mark.unit

ADDRESS = "http://box:8009"
KEY = "sk-a-key-of-ada"
OFFER = Offer(
    (
        Model("big", 32768, 4096, tools=True, vision=True, reasoning=False),
        Model("tiny", None, None, True, False, False),
    ),
    default="big",
    small="tiny",
    left_out={},
)
PATH = Path("/nowhere/opencode.json")


def for_opencode(present: dict[str, Any] | None = None) -> dict[str, Any]:
    text = None if present is None else json.dumps(present)
    (file,) = opencode.files(OFFER, ADDRESS, PATH, text)
    assert KEY not in file.text
    found: dict[str, Any] = json.loads(file.text)
    return found


def test_opencode() -> None:
    document = for_opencode()
    provider = document["provider"]["hearth"]
    assert provider["options"] == {"baseURL": "http://box:8009/v1", "apiKey": "{env:HEARTH_API_KEY}"}
    assert provider["models"]["big"]["limit"] == {"context": 32768, "output": 4096}
    assert provider["models"]["big"]["modalities"]["input"] == ["text", "image"]
    assert "limit" not in provider["models"]["tiny"]
    assert (document["model"], document["small_model"]) == ("hearth/big", "hearth/tiny")
    assert (document["permission"]["bash"], document["permission"]["edit"], document["share"]) == (
        "ask",
        "ask",
        "disabled",
    )


def test_opencode_keeps_what_people_chose() -> None:
    theirs = {"model": "other/x", "small_model": "hearth/old", "permission": {"bash": "deny"}, "share": "manual",
              "provider": {"other": {"name": "Other"}, "hearth": {"models": {"gone": {}}}},
              "theme": "dark"}  # fmt: skip
    document = for_opencode(theirs)
    assert (document["model"], document["small_model"]) == ("other/x", "hearth/tiny")
    assert (document["permission"]["bash"], document["permission"]["edit"]) == ("deny", "ask")
    assert (document["share"], document["theme"]) == ("manual", "dark")
    assert document["provider"]["other"] == {"name": "Other"}
    assert list(document["provider"]["hearth"]["models"]) == ["big", "tiny"]
    assert for_opencode({"permission": "allow"})["permission"] == "allow"


@pytest.mark.parametrize("text", ["{ // a comment\n}", "[]"])
def test_what_cannot_be_kept_is_not_overwritten(text: str) -> None:
    with pytest.raises(NotOurs):
        opencode.files(OFFER, ADDRESS, PATH, text)


def test_cline() -> None:
    others = {"version": 1, "modes": {"x": 1}, "providers": {"anthropic": {"settings": {}}}}
    present = {cline.ACCOUNTS: json.dumps(others), cline.SETTINGS: json.dumps({"telemetryOptOut": True})}
    accounts, settings = cline.files(OFFER, ADDRESS, KEY, Path("/nowhere"), present, "2026-01-01T00:00:00.000Z")
    document = json.loads(accounts.text)
    assert document["providers"]["openai-compatible"]["settings"] == {
        "provider": "openai-compatible", "apiKey": KEY, "model": "big", "baseUrl": "http://box:8009/v1",
        "contextWindow": 32768,
    }  # fmt: skip
    assert (document["lastUsedProvider"], document["modes"]) == ("openai-compatible", {"x": 1})
    assert "anthropic" in document["providers"]
    assert json.loads(settings.text) == {"toolAutoApprove": False, "telemetryOptOut": True}
    assert (accounts.secret, settings.secret) == (True, False)
    assert KEY not in settings.text + repr(accounts)


def test_variables_for_a_shell() -> None:
    lines = variables.sdk(OFFER, ADDRESS).splitlines()
    assert "export OPENAI_BASE_URL=http://box:8009/v1" in lines
    assert 'export ANTHROPIC_API_KEY="$HEARTH_API_KEY"' in lines
    evil = Offer((Model("a\nrm -rf /", None, None, True, False, False),), "a", "a", {})
    assert all(line.startswith(("export ", "# ")) for line in variables.sdk(evil, ADDRESS).splitlines())
    assert "export OPENAI_BASE_URL='http://x/$(id)/v1'" in variables.sdk(OFFER, "http://x/$(id)").splitlines()


def test_environment_of_open_webui() -> None:
    told = yaml.safe_load(variables.open_webui(OFFER, "http://box/$x"))
    assert told["OPENAI_API_BASE_URL"] == "http://box/$$x/v1", "Compose would take $x for a variable"
    assert (told["OPENAI_API_KEY"], told["TASK_MODEL_EXTERNAL"]) == ("${HEARTH_API_KEY:?}", "tiny")


def test_a_new_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "made" / "file.json"
    assert saved.write(SavedFile(path, "new")) is None
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("new", 0o600)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize(("secret", "mode"), [(False, 0o644), (True, 0o600)])
def test_a_copy_of_what_was_there_is_kept(tmp_path: Path, secret: bool, mode: int) -> None:
    path = tmp_path / "file.json"
    for number, text in enumerate(["one", "two", "three"]):
        path.write_text(text)
        path.chmod(0o644)
        copy = saved.write(SavedFile(path, f"{text} and more", secret))
        assert copy == tmp_path / f"file.json.before-{number + 1}"
        assert copy.read_text() == text
        assert {stat.S_IMODE(each.stat().st_mode) for each in (copy, path)} == {mode}
    assert saved.write(SavedFile(path, "three and more", secret)) is None, "nothing to change"
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "file.json", "file.json.before-1", "file.json.before-2", "file.json.before-3",
    ]  # fmt: skip


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("old")
    link = tmp_path / "link"
    link.symlink_to("kept")
    saved.write(SavedFile(link, "new"))
    assert link.is_symlink()
    assert (tmp_path / "kept").read_text() == "new"


def test_a_secret_is_hidden_even_when_nothing_changes(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_text("same")
    path.chmod(0o644)
    assert saved.write(SavedFile(path, "same", secret=True)) is None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
