"""The configuration by itself: what its parser says, each line as a finding with the place in its file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from router.check.codes import found
from router.check.findings import Finding
from router.check.located import Located
from router.check.subject import Subject

#: The parser's messages, by the kind that they are of. First match counts.
_KINDS = (
    ("unknown-key", re.compile(r"is not a known key")),
    ("never-fits", re.compile(r"never fits GPU")),
    ("duplicate-model", re.compile(r"(a second|another) entry named")),
    ("duplicate-container", re.compile(r"have the same (container|address)")),
)
_PATH = re.compile(r"([\w.\[\]]+(?: \([^)]*\))?[\w.\[\]]*): ")
_STEP = re.compile(r"(\w+)|\[(\d+)\]")


def check(subject: Subject) -> Iterator[Finding]:
    """Faults of the configuration, and keys that stand twice in it."""
    for fault in subject.faults:
        kind = next((kind for kind, pattern in _KINDS if pattern.search(fault)), "config-invalid")
        yield found(kind, _place(subject, fault), fault)
    for key, place in subject.repeated:
        yield found("repeated-key", place, f"{key} stands twice")


def _place(subject: Subject, fault: str) -> str:
    """The line that the path in front of a fault leads to, as far as it leads; else the file."""
    match = _PATH.match(fault)
    if match is None:
        return str(subject.path)
    place = subject.document.place
    value: Any = subject.document
    for name, index in _STEP.findall(re.sub(r" \([^)]*\)", "", match[1])):
        if name and isinstance(value, Located):
            place = value.at(name)
            value = value.get(name)
        elif index and isinstance(value, list) and int(index) < len(value):
            value = value[int(index)]
            place = value.place if isinstance(value, Located) else place
        else:
            break
    return str(place)
