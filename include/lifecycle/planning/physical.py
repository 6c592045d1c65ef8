"""What can still hold deleted rows, and until when. Pure: facts are arguments, nothing here asks a server (case 18).

An estimate is a time, or unknown with the reason. Nothing here says "gone" of what it cannot see.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from lifecycle.policy.models import Lead
from lifecycle.policy.periods import Period


@dataclass(frozen=True)
class Slot:
    """A replication slot: it keeps the log from ``restart`` on, and rows that a transaction older than it may see.

    ``ends``: when the server gives it up because nobody reads it; None where it does not.
    """

    name: str
    active: bool
    restart: int | None
    holds_rows: bool
    ends: datetime | None = None


@dataclass(frozen=True)
class Facts:
    """The server's state; positions and sizes of the log in bytes. None: not to be seen, or not on this server.

    ``undeclared``: publications whose subscribers keep what they are not told the end of.
    ``archived``: where the last segment ends that was archived; None before the first.
    """

    now: datetime
    position: int | None = None
    oldest_on_disk: int | None = None
    redo: int | None = None
    bytes_per_second: float | None = None
    keep: int = 0
    slot_keep: int | None = None
    checkpoint_timeout: timedelta = timedelta(minutes=5)
    slots: tuple[Slot, ...] | None = ()
    prepared: tuple[int, datetime] | None = None
    oldest_snapshot: datetime | None = None
    hidden_sessions: int = 0
    feedback: int = 0
    replicas: int | None = 0
    replica_lag: timedelta | None = None
    archiving: bool = False
    undeclared: tuple[str, ...] = ()
    archived: int | None = None


@dataclass(frozen=True)
class Deletion:
    """What a run took out: when, up to which position of the log, and in how many tables something of it is left.

    ``tables_pending``: with dead rows. ``free_space``: with their bytes in free space of a file that no rewrite has
    replaced since. ``sampled``: with column statistics from before.
    """

    at: datetime
    lsn: int | None
    tables_pending: int = 0
    free_space: int = 0
    sampled: int = 0


@dataclass(frozen=True)
class Holder:
    """One thing that can still hold what was deleted. ``until``: None where nobody can tell; then ``why`` says why."""

    kind: str
    until: datetime | None
    why: str


@dataclass(frozen=True)
class Outlook:
    """Everything from which it can still be read, and when all of that is expected to be gone."""

    deletion: Deletion
    holders: tuple[Holder, ...] = field(default=())

    @property
    def unreachable(self) -> bool:
        """No statement, no replica and no restore brings it back, as far as is known."""
        return not self.holders

    @property
    def erased(self) -> bool:
        """And no file of a table has its bytes. What file systems and disks keep of files is not known here."""
        return self.unreachable and not self.deletion.free_space

    @property
    def until(self) -> datetime | None:
        """The latest estimate; None where one is unknown, or nothing holds any more."""
        known = [holder.until for holder in self.holders if holder.until is not None]
        return max(known) if known and len(known) == len(self.holders) else None

    def longer_than(self, lead: Lead) -> list[Holder]:
        """What is expected to hold longer than the lead allows the store and its backups; the unknown too."""
        allowed = (lead.store_lag + lead.backup_retention).end(self.deletion.at, round_up=True)
        return [holder for holder in self.holders if holder.until is None or holder.until > allowed]


def outlook(facts: Facts, deletion: Deletion, backups: Period) -> Outlook:
    """What can still hold the rows of a deletion."""
    found = (
        *_tables(facts, deletion),
        *_statistics(deletion),
        *_log(facts, deletion),
        *_slots(facts, deletion),
        *_replicas(facts),
        *_subscribers(facts),
        *_backups(facts, deletion, backups),
    )
    return Outlook(deletion, found)


def _tables(facts: Facts, deletion: Deletion) -> Iterator[Holder]:
    """Dead rows in table, index or TOAST, and what keeps a vacuum from removing them."""
    if not deletion.tables_pending:
        return
    yield Holder("tables", None, f"{deletion.tables_pending} table(s) with dead rows that no vacuum could remove yet")
    if facts.prepared is not None and facts.prepared[0]:
        count, since = facts.prepared
        yield Holder("prepared transactions", None, f"{count}, since {_minute(since)}, until somebody ends them")
    if facts.oldest_snapshot is not None and facts.oldest_snapshot < facts.now:
        yield Holder("snapshots", None, f"a transaction since {_minute(facts.oldest_snapshot)}, until it ends")
    if facts.hidden_sessions:
        yield Holder("sessions", None, f"{facts.hidden_sessions} that our role may not see; grant pg_monitor to tell")
    for slot in facts.slots or ():
        if slot.holds_rows:
            yield Holder("replication slot", None, f"{slot.name} holds rows for a replica, until that moves on")
    if facts.feedback:
        yield Holder(
            "replica feedback", None, f"{facts.feedback} with hot_standby_feedback, until their oldest query ends"
        )


def _statistics(deletion: Deletion) -> Iterator[Holder]:
    """Values of columns that ANALYZE copied while the rows were there."""
    if deletion.sampled:
        why = f"pg_stats of {deletion.sampled} table(s) is from before: ANALYZE them (docs/operators.md)"
        yield Holder("column statistics", None, why)


def _log(facts: Facts, deletion: Deletion) -> Iterator[Holder]:
    """The write-ahead log on disk. A position at or behind the oldest segment's beginning is gone."""
    if deletion.lsn is None or facts.position is None:
        yield Holder("write-ahead log", None, "its position is not to be seen with our role")
        return
    oldest = facts.oldest_on_disk
    if oldest is not None and oldest >= deletion.lsn:
        return
    if facts.archiving and (facts.archived is None or facts.archived < deletion.lsn):
        why = "not archived yet: kept, whatever checkpoints do, until archive_command or archive_library has succeeded"
        yield Holder("write-ahead log", None, why)
        return
    checkpoints = facts.now + 2 * facts.checkpoint_timeout
    past_checkpoint = facts.redo is not None and facts.redo >= deletion.lsn
    if oldest is None and past_checkpoint and facts.position - deletion.lsn >= facts.keep:
        yield Holder("write-ahead log", facts.now, "released by the last checkpoint; its files are not to be seen")
        return
    missing = max(facts.keep - (facts.position - deletion.lsn), 0)
    if missing and not facts.bytes_per_second:
        yield Holder("write-ahead log", None, f"wal_keep_size keeps {missing:,} more bytes, and nothing is written")
        return
    written = timedelta(seconds=missing / facts.bytes_per_second) if missing and facts.bytes_per_second else timedelta()
    why = "removed or recycled by the checkpoints to come" + (f", after {missing:,} more bytes" if missing else "")
    yield Holder("write-ahead log", max(checkpoints, facts.now + written), why)


def _slots(facts: Facts, deletion: Deletion) -> Iterator[Holder]:
    if facts.slots is None:
        yield Holder("replication slots", None, "not to be seen with our role")
        return
    for slot in facts.slots:
        if slot.restart is None or deletion.lsn is None or slot.restart >= deletion.lsn:
            continue
        state = "read by its consumer" if slot.active else "read by nobody: drop it if it is not needed"
        until, bounded = None, "keeps the log without end (max_slot_wal_keep_size = -1)"
        if facts.slot_keep is not None:
            bounded = "keeps the log up to max_slot_wal_keep_size"
            if facts.bytes_per_second and facts.position is not None:
                left = max(facts.slot_keep - (facts.position - slot.restart), 0)
                until = facts.now + timedelta(seconds=left / facts.bytes_per_second)
        if slot.ends is not None:
            given_up = max(slot.ends, facts.now) + facts.checkpoint_timeout
            until, bounded = (
                min(until or given_up, given_up),
                f"{bounded}; given up as idle by idle_replication_slot_timeout",
            )
        yield Holder("replication slot", until, f"{slot.name}, {state}, {bounded}")


def _replicas(facts: Facts) -> Iterator[Holder]:
    if facts.replicas is None:
        yield Holder("replicas", None, "not to be seen with our role")
    elif facts.replicas and facts.replica_lag is None:
        yield Holder("replicas", None, f"{facts.replicas}, whose lag is idle or not to be seen with our role")
    elif facts.replicas and facts.replica_lag is not None:
        yield Holder("replicas", facts.now + facts.replica_lag, f"{facts.replicas}, behind by {facts.replica_lag}")


def _subscribers(facts: Facts) -> Iterator[Holder]:
    """Whom publications tell of rows, and not of partitions that are dropped: no query here sees what they keep."""
    for name in facts.undeclared:
        why = f"those of publication {name} keep what no message ends; dispose of it there, and declare the publication"
        yield Holder("subscribers", None, why)


def _backups(facts: Facts, deletion: Deletion, backups: Period) -> Iterator[Holder]:
    """What the policy declares; nobody can see a backup from inside the server."""
    end = backups.end(deletion.at, round_up=True)
    if end > facts.now:
        yield Holder("base backups", end, f"kept for {backups} (lead.backup_retention of the policy)")
    elif facts.archiving and end <= deletion.at:
        yield Holder("archived log", None, "the server archives its log, and the policy declares no backup_retention")


def _minute(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
