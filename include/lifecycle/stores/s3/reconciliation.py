"""The account of a destruction: what was asked for, and what became of each of it (hard case 6)."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Reconciliation:
    """Counts of one call, or of several added up. Always requested = deleted + absent + held + failed.

    ``held`` and ``failed`` name keys, for the caller's next step only: they are not shown and must not be logged.
    Bytes are those of the versions that were destroyed. ``keys_rewritten``: of the keys, those to which somebody wrote
    while they were being destroyed (hard case 15); what was written is accounted for like the rest.
    """

    requested_keys: int = 0
    keys_deleted: int = 0
    keys_absent: int = 0
    keys_held: int = 0
    keys_failed: int = 0
    versions_deleted: int = 0
    markers_deleted: int = 0
    bytes_deleted: int = 0
    uploads_aborted: int = 0
    keys_rewritten: int = 0
    held: frozenset[str] = field(default=frozenset(), repr=False)
    failed: frozenset[str] = field(default=frozenset(), repr=False)

    def __add__(self, other: Reconciliation) -> Reconciliation:
        return Reconciliation(
            requested_keys=self.requested_keys + other.requested_keys,
            keys_deleted=self.keys_deleted + other.keys_deleted,
            keys_absent=self.keys_absent + other.keys_absent,
            keys_held=self.keys_held + other.keys_held,
            keys_failed=self.keys_failed + other.keys_failed,
            versions_deleted=self.versions_deleted + other.versions_deleted,
            markers_deleted=self.markers_deleted + other.markers_deleted,
            bytes_deleted=self.bytes_deleted + other.bytes_deleted,
            uploads_aborted=self.uploads_aborted + other.uploads_aborted,
            keys_rewritten=self.keys_rewritten + other.keys_rewritten,
            held=self.held | other.held,
            failed=self.failed | other.failed,
        )

    @property
    def balanced(self) -> bool:
        """Whether every requested key is accounted for exactly once."""
        return self.requested_keys == self.keys_deleted + self.keys_absent + self.keys_held + self.keys_failed

    def counts(self) -> dict[str, int]:
        """The counts by name, without any key: fit for logs, results and the ledger."""
        return {name: value for name, value in vars(self).items() if isinstance(value, int)}
