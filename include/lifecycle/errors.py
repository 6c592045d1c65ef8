"""The errors this project raises. Each carries data (counts, partitions, limits), never contents of records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


class LifecycleError(Exception):
    """Root of every error that this project raises on purpose."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a configuration file: where it stands, what is wrong, and what to write instead.

    ``line`` counts from 1; 0 where there are no lines (the environment, a file that does not exist).
    """

    file: str
    line: int
    field: str
    message: str
    remedy: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        end = "" if self.remedy.endswith(("?", ".")) else "."
        return f"{place}: {self.field}: {self.message}. {self.remedy}{end}"


class ConfigurationError(LifecycleError):
    """A policy, dataset or connection cannot be used; nothing runs on it."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class PreconditionError(LifecycleError):
    """Something the run depends on does not hold (clock skew, a bucket without versioning, a future as-of)."""


class NotBoundError(PreconditionError):
    """What was asked for concerns a part that the dataset file does not have."""

    def __init__(self, part: str) -> None:
        self.part = part
        super().__init__(f"the dataset file has no {part}, so there is nothing to do this with; add it, or leave this")


class RunInProgressError(PreconditionError):
    """Another run of the same scope is alive; two at once are refused."""

    def __init__(self, scope: str, run_key: str) -> None:
        self.scope, self.run_key = scope, run_key
        super().__init__(
            f"a run of scope {scope!r} is under way (run {run_key}). "
            "Wait until it ends, or until its lease expires if its process is gone."
        )


class FencedOutError(LifecycleError):
    """This worker's lease was taken over by a newer try; it must not destroy anything any more (hard case 27)."""

    def __init__(self, resource: str, token: int) -> None:
        self.resource, self.token = resource, token
        super().__init__(f"lease on {resource!r} with token {token} was taken over by a newer try; stopping")


class DispositionError(LifecycleError):
    """Part of a disposition failed; everything that could be done was done. Counts only."""

    def __init__(self, partition: str, failed: int, counts: dict[str, int]) -> None:
        self.partition, self.failed, self.counts = partition, failed, counts
        shown = ", ".join(f"{key} {value}" for key, value in sorted(counts.items()))
        super().__init__(f"{partition}: {failed} item(s) could not be disposed of ({shown}); run again to retry them")


class StatementTooSlowError(LifecycleError):
    """Not even the smallest batch of a unit ends within its statement_timeout, or somebody cancels each of them."""

    def __init__(self, unit: str, rows: int, seconds: float) -> None:
        self.unit, self.rows, self.seconds = unit, rows, seconds
        super().__init__(
            f"{unit}: a batch of {rows} row(s) was cancelled, statement_timeout is {seconds:g} s. "
            "Is there an index for each foreign key and trigger that a deletion fires? `lifecycle policy validate "
            "--connect` names a missing index on the clock"
        )


class VerificationError(LifecycleError):
    """A copy does not equal its source; the source was left in place."""


class ValidationFailedError(LifecycleError):
    """Validations found promises broken; counts per promise."""

    def __init__(self, failures: dict[str, int]) -> None:
        self.failures = failures
        super().__init__("; ".join(f"{name}: {count}" for name, count in sorted(failures.items())))


class DeadlineAtRiskError(LifecycleError):
    """A deadline would be broken if one more run failed, or is broken: hours left per dataset and tier."""

    def __init__(self, hours_left: Mapping[str, float], counts: Mapping[str, int]) -> None:
        self.hours_left, self.counts = dict(hours_left), dict(counts)
        shown = "; ".join(
            f"{name}: {hours:.1f} h left, {self.counts.get(name, 0):,} due" for name, hours in self.hours_left.items()
        )
        super().__init__(shown)


class LedgerError(LifecycleError):
    """The ledger's hash chain does not hold, or differs from its write-once copy."""


class PolicyLockedError(ConfigurationError):
    """The policy in force is locked, and the loaded one changes what a lock does not let change; nothing runs on it."""


class ApprovalError(LifecycleError):
    """A decision is refused: nothing waits for it, the wrong person answered, or it answers something else."""


class BackstopConflictError(LifecycleError):
    """Other people's lifecycle rules would remove what must stay: counts per bucket. Nothing of ours was applied."""

    def __init__(self, conflicts: Mapping[str, int]) -> None:
        self.conflicts = dict(conflicts)
        shown = ", ".join(f"{bucket}: {count}" for bucket, count in self.conflicts.items())
        super().__init__(
            f"lifecycle rules that are not ours would remove what must stay ({shown}); nothing was applied. "
            "`lifecycle s3 backstop` names them: disable them, or narrow them to prefixes of their own"
        )


class ShieldError(LifecycleError):
    """Objects that must stay still carry a ticket, so that S3 may expire them: counts only."""

    def __init__(self, failed: int, objects: int) -> None:
        self.failed, self.objects = failed, objects
        super().__init__(
            f"of {objects} object(s) that must stay, {failed} could not be taken out of S3's reach; run "
            "`lifecycle s3 shield` again, or take the rules away (`lifecycle s3 backstop --remove`)"
        )


class NativeRuleError(LifecycleError):
    """Lifecycle rules for days that may not be left to S3 (any more) still stand in a bucket: counts only."""

    def __init__(self, failed: int, rules: int) -> None:
        self.failed, self.rules = failed, rules
        super().__init__(
            f"of {rules} lifecycle rule(s) for days that may not be left to S3 any more, {failed} could not be taken "
            "away, and S3 may expire what must stay; run `lifecycle s3 shield` again (it needs "
            "s3:PutLifecycleConfiguration), or take the rules whose ID begins with lifecycle-native- out by hand"
        )


class BlastRadiusError(LifecycleError):
    """Part of a plan is over a limit and waits for approval; nothing of it was destroyed. Carries its numbers."""

    def __init__(self, dataset: str, tier: str | None, records: int, limit: int, reason: str) -> None:
        self.dataset, self.tier, self.records, self.limit, self.reason = dataset, tier, records, limit, reason
        where = f"{dataset} of tier {tier}" if tier else dataset
        super().__init__(
            f"{where}: {records} records would be destroyed, more than {limit} ({reason}); this part waits for approval"
        )
