"""docs/models.md: fresh, whole, and able to be stale."""

from __future__ import annotations

from pathlib import Path

import pytest

from router import catalogue_document
from router.catalogue import Card, Catalogue, KnownProblem, Task
from router.config import load

ROOT = Path(__file__).parents[2]


def test_the_page_is_fresh() -> None:
    assert catalogue_document.main(["--check"]) == 0


def test_a_stale_page_is_told_and_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(catalogue_document, "_PAGE", tmp_path / "models.md")
    assert catalogue_document.main(["--check"]) == 1
    assert "python -m router.catalogue_document" in capsys.readouterr().err
    assert catalogue_document.main([]) == 0
    assert catalogue_document.main(["--check"]) == 0
    assert (tmp_path / "models.md").read_text() == (ROOT / "docs/models.md").read_text()


def test_every_model_is_on_the_page_with_its_problems_and_reason() -> None:
    config = load(ROOT / "litellm_config.yaml")
    page = (ROOT / "docs/models.md").read_text()
    assert page.startswith("# Models")
    assert f"{len(config.cards)} models" in page
    for name, card in config.cards.items():
        assert f"| `{name}` |" in page, name
        for problem in card.catalogue.known_problems if name in config.models else ():
            assert f"| `{name}` | {problem.client} | {problem.problem} | {problem.instead} |" in page
    for reason in config.disabled.values():
        assert reason in page


def test_the_chooser_has_every_task_and_puts_proven_models_first() -> None:
    trouble = KnownProblem(client="any", problem="hangs", instead="a")
    cards = [
        Card(name="c", catalogue=Catalogue(good_for=(Task.CHAT,), known_problems=(trouble,))),
        Card(name="b", catalogue=Catalogue(good_for=(Task.CHAT,))),
        Card(name="a", catalogue=Catalogue(good_for=(Task.CHAT,), experimental=False)),
    ]
    chooser = catalogue_document._chooser(cards)
    assert "| **a**, b, c |" in chooser
    assert catalogue_document._TASKS.keys() == set(Task)
