"""A Markdown page as the tests of the documentation see it: its commands, links, headings and YAML."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"(?<!`)`([^`\n]+(?:\n[^`\n]+)?)`(?!`)")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
#: What ends a command in a line of the shell.
_ENDS = re.compile(r"[|;&<>()]+")


class Page:
    """blocks: language and text of each fenced block. spans: inline code. prose: everything else."""

    def __init__(self, path: Path) -> None:
        self.path = path
        text = path.read_text(encoding="utf-8")
        self.blocks = [(found["language"], found["text"]) for found in _FENCE.finditer(text)]
        without = _FENCE.sub("", text)
        self.spans = [" ".join(span.split()) for span in _SPAN.findall(without)]
        self.prose = _SPAN.sub(lambda found: re.sub(r"[\[\]()#]", "", found[0]), without)

    def lines(self) -> Iterator[list[str]]:
        """The words of each command in a shell block; its variables before it, comments and what it is piped to after
        it left out."""
        for language, text in self.blocks:
            if language in ("sh", "bash", "console"):
                lines = ""
                for line in text.replace("\\\n", " ").splitlines():
                    lines += line + "\n"
                    try:
                        commands = list(_commands(lines))
                    except ValueError:
                        continue  # its quote ends in a later line
                    yield from commands
                    lines = ""
                if lines:
                    raise AssertionError(f"{self.path}: a quote does not end:\n{lines}")

    def mentions(self) -> Iterator[list[str]]:
        """The words of each piece of inline code that reads as a shell would."""
        for span in self.spans:
            try:
                yield from _commands(span)
            except ValueError:
                continue  # a quote without its partner: no command

    def links(self) -> list[str]:
        """Where the page points to within the project."""
        return [link for link in _LINK.findall(self.prose) if not re.match(r"[a-z]+:", link)]

    def anchors(self) -> set[str]:
        """What `#...` may name here, as GitHub makes it from the headings."""
        seen: Counter[str] = Counter()
        anchors = set()
        for heading in _HEADING.findall(_FENCE.sub("", self.path.read_text(encoding="utf-8"))):
            plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
            slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
            anchors.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
            seen[slug] += 1
        return anchors


def _commands(line: str) -> Iterator[list[str]]:
    """The commands of one line."""
    reader = shlex.shlex(line, posix=True, punctuation_chars=True)
    reader.whitespace_split = True
    command: list[str] = []
    for word in [*reader, ";"]:
        if not _ENDS.fullmatch(word):
            command.append(word)
            continue
        while command and re.fullmatch(r"[A-Z_]+=.*", command[0]):
            command.pop(0)
        if command:
            yield command
        command = []
