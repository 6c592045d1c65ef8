"""What the console shows, as plain data: counts, rules, instants, verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from lifecycle.planning.risk import State


@dataclass(frozen=True)
class Line:
    """One dataset of one tier: where its deadline stands today, and what is left beyond it.

    ``oldest`` is the clock of the oldest surviving item. ``due``: past the cut-off, to go in the next run.
    ``overdue``: past the deadline without a reason to stay. ``explained``: late, because what kept it ended only now.
    ``after_hold``: those of them that a hold or a case made late. ``at_risk``: when a deadline would be broken if no
    further run succeeded. ``counted``: objects where lines are not read.
    """

    tier: str
    dataset: str
    scope: str
    rule: str
    period: str | None
    kind: str
    cutoff: datetime | None
    oldest: datetime | None
    due: int | None
    overdue: int | None
    explained: int = 0
    after_hold: int = 0
    at_risk: datetime | None = None
    urgency: str = "fine"
    counted: str = "records"
    kept: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class RunLine:
    """One run with its verdict; ``broken`` and ``warnings`` are None when it was not validated."""

    run_id: int
    run_key: str
    scope: str
    as_of: datetime
    status: str
    dry_run: bool
    started_at: datetime
    finished_at: datetime | None
    disposed: Mapping[str, int]
    kept: Mapping[str, int]
    broken: int | None
    warnings: int | None

    @property
    def verdict(self) -> str:
        """passed, warning, broken, or the run's status where no validation has judged it."""
        if self.broken is None:
            return "dry run" if self.dry_run else self.status
        if self.broken:
            return "broken"
        return "warning" if self.warnings else "passed"


@dataclass(frozen=True)
class ScopeState:
    """Whether a scope is alive: its last run, and its last successful one."""

    scope: str
    last: RunLine | None
    succeeded_as_of: datetime | None
    missing: bool


@dataclass(frozen=True)
class Ledger:
    """The end of the chain, and what its last check found (None: never checked)."""

    rows: int
    head: str | None
    recorded_at: datetime | None
    intact: bool | None
    checked_at: datetime | None


@dataclass(frozen=True)
class Queues:
    """What people have asked for."""

    holds_open: int
    cases_open: int
    erasures_open: int
    erasure_oldest: datetime | None
    erasures_late: int
    quarantined: int


@dataclass(frozen=True)
class Question:
    """Something that nobody has answered yet: a configuration, or a part of a plan that is over its limits.

    ``records``: that the change touches, or that the plan would destroy. ``until``: the earliest deadline among them.
    """

    approval_id: int
    subject: str
    about: str
    records: int
    reason: str | None
    asked_by: str
    asked_at: datetime
    until: datetime | None


@dataclass(frozen=True)
class Overview:
    """The whole page."""

    as_of: datetime
    policy_name: str
    policy_version: int
    policy_hash: str
    lead: str
    lines: tuple[Line, ...]
    scopes: tuple[ScopeState, ...]
    runs: tuple[RunLine, ...]
    ledger: Ledger
    queues: Queues
    questions: tuple[Question, ...] = ()

    @property
    def overdue(self) -> int:
        return sum(line.overdue or 0 for line in self.lines) + self.queues.erasures_late

    @property
    def alarms(self) -> tuple[str, ...]:
        """What somebody has to look at now, in words."""
        found = [
            f"{line.tier} {line.dataset}: {line.overdue:,} {'objects ' if line.counted == 'objects' else ''}overdue"
            for line in self.lines
            if line.overdue
        ]
        found += [
            f"{line.tier} {line.dataset}: a deadline is at risk, {line.at_risk:%Y-%m-%d %H:%M} UTC"
            for line in self.lines
            if line.urgency == State.AT_RISK and line.at_risk is not None
        ]
        if self.queues.erasures_late:
            found.append(f"{self.queues.erasures_late:,} erasure request(s) past their service level")
        missing = [state.scope for state in self.scopes if state.missing]
        found += [f"{scope}: no successful run within two schedule intervals" for scope in missing]
        for state in self.scopes:
            if state.last is not None and state.last.broken:
                found.append(f"{state.scope}: the last run found {state.last.broken:,} check(s) broken")
            elif state.last is not None and state.last.status in ("failed", "abandoned"):
                found.append(f"{state.scope}: the last run {state.last.status}")
        found += [f"approval {each.approval_id} of {each.about} waits for an answer" for each in self.questions]
        if self.ledger.intact is False:
            found.append("the ledger's hash chain is broken")
        return tuple(found)

    def as_dict(self) -> dict[str, Any]:
        """For the JSON route: times in UTC with Z, verdicts and alarms spelt out."""
        data: dict[str, Any] = _plain(asdict(self))
        data["overdue"], data["alarms"] = self.overdue, list(self.alarms)
        for run, shown in zip(self.runs, data["runs"], strict=True):
            shown["verdict"] = run.verdict
        for state, shown in zip(self.scopes, data["scopes"], strict=True):
            if state.last is not None:
                shown["last"]["verdict"] = state.last.verdict
        return data


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
