"""What a soak has found, as JSON and as Markdown, written beside each other after every tier."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from router.staged_file import staged
from router.trying.ceiling import Outcome, Tier
from router.trying.soak import GATEWAY, Load

_HEADINGS = (
    "Prompt",
    "Counted",
    "At once",
    "Result",
    "Seconds",
    "First token",
    "Prompt tok/s",
    "Answer tok/s",
    "Found",
)


@dataclass(frozen=True, slots=True)
class Subject:
    """What was tried. started: UTC, as 2026-01-31T12:00:00Z. promised: tokens of prompt and answer together that the
    configuration promises; None when it says nothing."""

    model: str
    started: str
    promised: int | None
    load: Load


def as_json(subject: Subject, outcome: Outcome) -> dict[str, Any]:
    """Lengths in tokens, times in seconds, rates in tokens a second; `ceiling` is the largest prompt that passed,
    `limited_by` who ended the smallest that did not."""
    return {
        "model": subject.model,
        "started": subject.started,
        "promised_context": subject.promised,
        "concurrency": subject.load.concurrency,
        "output_tokens": subject.load.output_tokens,
        "needle_required": subject.load.needle,
        "complete": outcome.complete,
        "ceiling": outcome.ceiling,
        "limited_by": outcome.limited_by,
        "tiers": [asdict(tier) for tier in outcome.tiers],
    }


def as_markdown(subject: Subject, outcome: Outcome) -> str:
    """The same for people."""
    rows = [" | ".join(row(tier)) for tier in outcome.tiers]
    table = [f"| {' | '.join(_HEADINGS)} |", f"|{' --- |' * len(_HEADINGS)}", *(f"| {line} |" for line in rows)]
    listed = [f"- {reason}" for reason in reasons(outcome)]
    parts = [f"# {subject.model}, {subject.started}", verdict(subject, outcome), "\n".join(table)]
    return "\n\n".join([*parts, *(["\n".join(listed)] if listed else [])]) + "\n"


def reasons(outcome: Outcome) -> list[str]:
    """A line for each size that did not pass."""
    return [f"{tier.target:,} tokens: {tier.reason}" for tier in outcome.tiers if tier.reason]


def verdict(subject: Subject, outcome: Outcome) -> str:
    """One or two sentences."""
    load = subject.load
    at_once = "one request" if load.concurrency == 1 else f"{load.concurrency} requests at once"
    if outcome.ceiling is None:
        said = f"No size that was tried held with {at_once}."
    else:
        said = (
            f"With {at_once}, prompts of {outcome.ceiling:,} tokens hold, beside answers of up to "
            f"{load.output_tokens:,}."
        )
    if outcome.limited_by == GATEWAY:
        said += " What is larger was kept from the engine by the gateway's request rules: the engine may hold more."
    if subject.promised is not None:
        said += f" The configuration promises {subject.promised:,} tokens for both."
    return said if outcome.complete else f"{said} The run was not finished."


def row(tier: Tier) -> list[str]:
    """The cells of one tier, without its reason."""
    return [
        f"{tier.target:,}",
        "" if tier.prompt_tokens is None else f"{tier.prompt_tokens:,}",
        str(tier.concurrency),
        "pass" if tier.passed else "FAIL",
        f"{tier.seconds:.1f}",
        "" if tier.first_seconds is None else f"{tier.first_seconds:.1f}",
        "" if tier.prompt_rate is None else f"{tier.prompt_rate:,.0f}",
        "" if tier.answer_rate is None else f"{tier.answer_rate:.1f}",
        f"{tier.found} of {tier.concurrency}",
    ]


def headings() -> tuple[str, ...]:
    return _HEADINGS


def write(directory: Path, subject: Subject, outcome: Outcome) -> Path:
    """Write both files; the Markdown one's path. Each is replaced in one step. Raises OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^\w.-]+", "-", f"soak-{subject.model}-{subject.started}").replace(":", "")
    _replace(directory / f"{name}.json", json.dumps(as_json(subject, outcome), indent=2) + "\n")
    markdown = directory / f"{name}.md"
    _replace(markdown, as_markdown(subject, outcome))
    return markdown


def _replace(file: Path, text: str) -> None:
    with staged(file, text, 0o600) as new:
        new.replace(file)
