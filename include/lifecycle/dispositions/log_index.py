"""What is remembered of many-record objects, so that an object in which nothing can be due is not read again.

A row of ``lifecycle.log_index`` is trusted only while the object has one version, and that is the one that was read
whole: same id, ETag, size and instant, same fields. It can say that nothing is due, never that something is. The
auditor does not know of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from psycopg.types.json import Jsonb

from lifecycle.catalog.models import Logs
from lifecycle.stores.postgres.connect import Connection

if TYPE_CHECKING:
    from lifecycle.stores.s3.outline import Known
    from lifecycle.stores.s3.records import Judge, Ordinary
    from lifecycle.stores.s3.versions import ObjectVersion

# Part of what is compared: what was remembered in another form is not trusted.
_FORM = 1


class Suspects:
    """Accounts and records of which an exception can make something due that its tier's default does not."""

    def __init__(self, judge: Judge, ordinary: Ordinary) -> None:
        self._judge, self._ordinary = judge, ordinary

    @cached_property
    def _possible(self) -> tuple[list[str], list[str]]:
        """Looked for at the cut-offs: by no exception is a younger record due where an older one is not."""
        at = {tier: cutoff for tier, (cutoff, _) in self._ordinary.cutoffs.items()}
        return (
            [name for name in self._ordinary.subjects if self._is_due("", name, at)],
            [name for name in self._ordinary.records if self._is_due(name, "", at)],
        )

    def clear(self, oldest: dict[str, datetime]) -> tuple[list[str], list[str]] | None:
        """Which accounts and records must not be in an object whose oldest records are these, if none is to be due.

        None where the defaults alone make something due.
        """
        for tier, clock in oldest.items():
            cutoff = self._ordinary.cutoffs.get(tier)
            if cutoff is None or clock < cutoff[0]:
                return None
        subjects, records = self._possible
        return (
            [name for name in subjects if self._is_due("", name, oldest)],
            [name for name in records if self._is_due(name, "", oldest)],
        )

    def _is_due(self, record: str, subject: str, clocks: dict[str, datetime]) -> bool:
        return any(self._judge(record, subject, tier, clock) is not None for tier, clock in clocks.items())


@dataclass(frozen=True)
class LogIndex:
    """The rows of one dataset. ``writes``: a dry run remembers nothing."""

    conn: Connection
    dataset: Logs
    writes: bool

    def rows_if_clean(self, versions: Sequence[ObjectVersion], suspects: Suspects | None) -> int | None:
        """How many records an object holds if certainly none of them is due; else None.

        Args:
            versions: all of the object, as they were just listed.
            suspects: None where not all decisions follow from cut-offs and named exceptions.
        """
        if suspects is None or len(versions) != 1 or versions[0].is_marker:
            return None
        found = self.conn.execute(
            "SELECT rows, oldest FROM lifecycle.log_index WHERE bucket = %s AND key_sha256 = %s AND state = %s",
            (*self._place(versions[0].key), self._state(versions[0])),
        ).fetchone()
        if found is None:
            return None
        rows, oldest = found
        names = suspects.clear({tier: datetime.fromisoformat(clock) for tier, clock in oldest.items()})
        if names is None or (any(names) and self._may_hold(versions[0], *names)):
            return None
        return int(rows)

    def knows(self, versions: Sequence[ObjectVersion]) -> bool:
        """Whether an object was read whole as it stands, and each of its records could be told apart."""
        if len(versions) != 1 or versions[0].is_marker:
            return False
        found = self.conn.execute(
            "SELECT 1 FROM lifecycle.log_index WHERE bucket = %s AND key_sha256 = %s AND state = %s",
            (*self._place(versions[0].key), self._state(versions[0])),
        ).fetchone()
        return found is not None

    def learn(self, day: date, version: ObjectVersion, known: Known) -> None:
        """Remember an object of one version that was read whole, with nothing due in it."""
        if not self.writes:
            return
        oldest = {tier: clock.isoformat() for tier, clock in known.oldest.items()}
        self.conn.execute(
            "INSERT INTO lifecycle.log_index (bucket, key_sha256, state, dataset, day, rows, oldest, subjects, records)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (bucket, key_sha256) DO UPDATE"
            " SET (state, dataset, day, rows, oldest, subjects, records) = (EXCLUDED.state, EXCLUDED.dataset,"
            " EXCLUDED.day, EXCLUDED.rows, EXCLUDED.oldest, EXCLUDED.subjects, EXCLUDED.records)",
            (
                *self._place(version.key),
                self._state(version),
                self.dataset.id,
                day,
                known.rows,
                Jsonb(oldest),
                known.subjects,
                known.records,
            ),
        )

    def unlearn(self, key: str) -> None:
        """Before an object is read anew, and in the transaction that changed it: signs of what is gone are not kept."""
        if self.writes:
            self.conn.execute("DELETE FROM lifecycle.log_index WHERE bucket = %s AND key_sha256 = %s", self._place(key))

    def forget_other_days(self, days: Iterable[date]) -> None:
        """What is remembered of days that are not there any more."""
        if self.writes:
            self.conn.execute(
                "DELETE FROM lifecycle.log_index WHERE dataset = %s AND NOT day = ANY(%s)",
                (self.dataset.id, list(days)),
            )

    def _may_hold(self, version: ObjectVersion, subjects: list[str], records: list[str]) -> bool:
        from lifecycle.stores.s3.outline import may_hold

        signs = self.conn.execute(
            "SELECT subjects, records FROM lifecycle.log_index WHERE bucket = %s AND key_sha256 = %s AND state = %s",
            (*self._place(version.key), self._state(version)),
        ).fetchone()
        return signs is None or may_hold(signs[0], subjects) or may_hold(signs[1], records)

    def _place(self, key: str) -> tuple[str, str]:
        # Of the same object each stage has something of its own to remember; no key holds NUL.
        name = f"{key}\0{self.dataset.id}" if self.dataset.clear else key
        return self.dataset.bucket, hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()

    def _state(self, version: ObjectVersion) -> str:
        told: list[Any] = [
            _FORM,
            self.dataset.record,
            self.dataset.subject,
            self.dataset.tier,
            self.dataset.clock,
            version.version_id,
            version.etag,
            version.size,
            version.last_modified.isoformat(),
            *self.dataset.clear,
        ]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def suspects_of(decide: object) -> Suspects | None:
    """None where a decision does not tell what is ordinary."""
    from lifecycle.stores.s3.records import Judge

    if not isinstance(decide, Judge) or decide.ordinary is None:
        return None
    return Suspects(decide, decide.ordinary)
