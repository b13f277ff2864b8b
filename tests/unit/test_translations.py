"""The translations of README.md give the same commands as the English text, and their links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
ENGLISH = ROOT / "README.md"
TRANSLATIONS = {
    language: ROOT / f"docs/translations/README.{language}.md" for language in ("de", "ja", "pt", "vi", "zh")
}


def blocks(file: Path) -> list[list[str]]:
    """The code blocks of a file, each as its lines without their comments."""
    found = re.findall(r"^```\w*\n(.*?)^```$", file.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [[re.sub(r"\s+# .*", "", line) for line in block.splitlines()] for block in found]


def words_in_backticks(file: Path) -> set[str]:
    text = re.sub(r"^```.*?^```$", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return set(re.findall(r"`([^`\n]+)`", text))


def links(file: Path) -> set[str]:
    """What the file links to: an address, or a path of the repository, with its anchor."""
    targets = re.findall(r"\]\(([^)\s]+)\)", file.read_text(encoding="utf-8"))
    return {target if "://" in target else _path(file, target) for target in targets}


def _path(file: Path, target: str) -> str:
    path, _, anchor = target.partition("#")
    found = (file.parent / path).resolve()
    assert found.exists(), f"{file.relative_to(ROOT)} links to {target}, which is not there"
    if anchor:
        titles = re.findall(r"^#+ (.*)$", found.read_text(encoding="utf-8"), re.MULTILINE)
        anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
        assert anchor in anchors, f"{file.relative_to(ROOT)} links to {target}, which has no such heading"
    return f"{found.relative_to(ROOT)}{'#' if anchor else ''}{anchor}"


def test_the_english_text_has_commands_and_links_to_all_translations() -> None:
    assert ["make run"] in blocks(ENGLISH)
    assert ["make test"] in blocks(ENGLISH)
    assert {str(file.relative_to(ROOT)) for file in TRANSLATIONS.values()} <= links(ENGLISH)
    assert sorted((ROOT / "docs/translations").iterdir()) == sorted(TRANSLATIONS.values())


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_its_commands_are_the_english_ones(language: str) -> None:
    file = TRANSLATIONS[language]
    assert blocks(file) == blocks(ENGLISH)
    assert words_in_backticks(file) <= words_in_backticks(ENGLISH)


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_it_links_to_what_the_english_text_links_to(language: str) -> None:
    file = TRANSLATIONS[language]
    others = {str(other.relative_to(ROOT)) for other in TRANSLATIONS.values() if other != file}
    assert {"README.md"} | others <= links(file) <= links(ENGLISH) | {"README.md"}
