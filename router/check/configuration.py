"""The configuration by itself: what its parser says, each line as a finding with the place in its file."""

from __future__ import annotations

import difflib
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
#: LiteLLM takes any key anywhere, so that one of these with a letter wrong would be overlooked without a word.
_READ = ("model_list", "general_settings", "litellm_settings", "router_settings")
_READ_OF_GENERAL = ("master_key", "lifecycle")
_READ_OF_ENTRY = ("model_name", "litellm_params", "model_info")
_READ_OF_PARAMETERS = ("api_base", "api_key")
_READ_OF_INFO = (
    "lifecycle", "request_rules", "catalogue", "max_input_tokens", "max_output_tokens", "supports_function_calling",
    "supports_vision", "supports_reasoning",
)  # fmt: skip
#: How much alike two keys are of which one is misspelled. LiteLLM has other keys of its own up to 0.85.
_ALIKE = 0.86
_PATH = re.compile(r"([\w.\[\]]+(?: \([^)]*\))?[\w.\[\]]*): ")
_STEP = re.compile(r"(\w+)|\[(\d+)\]")


def check(subject: Subject) -> Iterator[Finding]:
    """Faults of the configuration, and keys that stand twice in it."""
    for fault in subject.faults:
        kind = next((kind for kind, pattern in _KINDS if pattern.search(fault)), "config-invalid")
        yield found(kind, _place(subject, fault), fault)
    yield from _misspelled(subject.document)
    for key, place in subject.repeated:
        yield found("repeated-key", place, f"{key} stands twice")


def _misspelled(document: Located) -> Iterator[Finding]:
    read: list[tuple[Any, tuple[str, ...]]] = [
        (document, _READ),
        (document.get("general_settings"), _READ_OF_GENERAL),
    ]
    for entry in _list(document.get("model_list")):
        if isinstance(entry, Located):
            read += [(entry, _READ_OF_ENTRY), (entry.get("litellm_params"), _READ_OF_PARAMETERS),
                     (entry.get("model_info"), _READ_OF_INFO)]  # fmt: skip
    for mapping, known in read:
        if not isinstance(mapping, Located):
            continue
        for key in mapping.keys() - set(known):
            if near := difflib.get_close_matches(str(key), known, n=1, cutoff=_ALIKE):
                said = f"{key} is not a known key; did you mean {near[0]!r}?"
                yield found("unknown-key", mapping.at(str(key)), said)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


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
