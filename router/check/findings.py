"""A finding: something that is wrong, or may be, with the place and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Severity(StrEnum):
    """How bad a finding is. Only errors, or with --strict also warnings, fail the check."""

    ERROR = "error"
    WARNING = "warning"
    HINT = "hint"


@dataclass(frozen=True, slots=True)
class Code:
    """A kind of finding. meaning: what is the matter; action: what to do when the finding itself says nothing else."""

    name: str
    severity: Severity
    meaning: str
    action: str


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a file; line 0 is the file as a whole."""

    file: Path
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else str(self.file)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found. where: `file:line`, a file, or a path within the configuration."""

    severity: Severity
    code: str
    where: str
    message: str
    action: str


def count(findings: Iterable[Finding], severity: Severity) -> int:
    """How many findings are of this severity."""
    return sum(finding.severity is severity for finding in findings)


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Errors first, then warnings and hints; of one kind together, the kinds as they were found. Nothing twice."""
    once = list(dict.fromkeys(findings))
    severities, codes = list(Severity), list(dict.fromkeys(finding.code for finding in once))
    return sorted(once, key=lambda finding: (severities.index(finding.severity), codes.index(finding.code)))
