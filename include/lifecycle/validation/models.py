"""What the auditor speaks in: promises, checks and their results. Counts only, never values (hard case 25)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from psycopg import sql


class Promise(StrEnum):
    """What is promised; every check belongs to one."""

    NEVER_LATE = "never_late"
    NEVER_EARLY = "never_early"
    HELD_STAYS = "held_stays"
    QUARANTINE = "quarantine"
    DEIDENTIFIED = "deidentified"
    TRAINING_USE = "training_use"
    AGREEMENT = "rows_and_objects_agree"
    RECORDED = "nothing_unrecorded"
    ALIVE = "runs_succeed"
    CLASSIFIED = "everything_classified"
    COVERAGE = "coverage"


# How each promise is told to people: a title and a sentence.
PROMISES: Mapping[Promise, tuple[str, str]] = {
    Promise.NEVER_LATE: ("Never late", "Nothing outlives its deadline without a reason to stay."),
    Promise.NEVER_EARLY: ("Never early", "Nothing went before the policy allows it, and no more than was planned."),
    Promise.HELD_STAYS: ("What is held stays", "Nothing under legal hold was destroyed, moved or hidden."),
    Promise.QUARANTINE: ("Quarantine", "Flagged messages, nothing else, unchanged, for their time and no longer."),
    Promise.DEIDENTIFIED: ("De-identified", "Research data names nobody and says nothing anybody said."),
    Promise.TRAINING_USE: ("Training use", "Training data holds only what was flagged for review or permitted."),
    Promise.AGREEMENT: ("Rows and objects agree", "Each row has its object, each object its row; nothing is hidden."),
    Promise.RECORDED: ("Nothing unrecorded", "The ledger says what happened, and nothing else; it is unchanged."),
    Promise.ALIVE: ("Runs succeed", "Every scope has had a successful run recently."),
    Promise.CLASSIFIED: ("Everything classified", "No record is without a rule."),
    Promise.COVERAGE: ("Coverage", "What exists is bound by the dataset file, or excluded with a reason and an end."),
}


class Severity(StrEnum):
    CRITICAL = "critical"
    WARNING = "warning"


@dataclass(frozen=True)
class Check:
    """One query that selects a row per violation (a constant, never a value), and the promise it watches.

    ``informative``: what it counts is worth showing and breaks nothing (late, but explained).
    """

    name: str
    promise: Promise
    severity: Severity
    description: str
    query: sql.Composable
    params: Mapping[str, Any] = field(default_factory=dict)
    informative: bool = False

    def result(self, violations: int) -> CheckResult:
        return CheckResult(
            self.name,
            self.promise.value,
            self.severity.value,
            violations,
            violations == 0 or self.informative,
            self.description,
        )


@dataclass(frozen=True)
class CheckResult:
    """How often a check found its promise broken."""

    name: str
    promise: str
    severity: str
    violations: int
    success: bool
    description: str

    @property
    def breaks(self) -> bool:
        return not self.success and self.severity == Severity.CRITICAL

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "promise": self.promise,
            "severity": self.severity,
            "violations": self.violations,
            "success": self.success,
            "description": self.description,
        }


def broken(checks: tuple[CheckResult, ...]) -> dict[str, int]:
    """Violations per check that breaks a promise; warnings are not among them."""
    return {check.name: check.violations for check in checks if check.breaks}


@dataclass(frozen=True)
class AuditResult:
    """Every check of an audit. ``passed`` when no critical one found a violation."""

    checks: tuple[CheckResult, ...]
    as_of: datetime
    passed: bool

    @classmethod
    def of(cls, checks: tuple[CheckResult, ...], as_of: datetime) -> AuditResult:
        return cls(checks, as_of, not broken(checks))

    @property
    def failures(self) -> dict[str, int]:
        return broken(self.checks)

    def as_dict(self) -> dict[str, Any]:
        return {
            "as_of": self.as_of.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            "passed": self.passed,
            "broken": self.failures,
            "checks": [check.as_dict() for check in self.checks],
        }
