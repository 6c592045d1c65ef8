"""What the two sides say of each other, in counts and names of partitions; never a key or an id (hard case 25)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from lifecycle.catalog.models import Messages
from lifecycle.reconcile.database import Scratch
from lifecycle.reconcile.layout import groups_of, pattern_of

# Partitions that differ are listed up to this many, the largest difference first.
MOST_PARTITIONS = 50
_AGES = (("under_a_day", 0, 1), ("under_a_week", 1, 7), ("under_30_days", 7, 30), ("older", 30, 1_000_000))


@dataclass(frozen=True)
class Partition:
    """Keys of one tier and day, and rows that name a key there."""

    tier: str
    day: str
    objects: int
    rows: int


@dataclass(frozen=True)
class Report:
    """Counts of keys and rows. ``hidden``: keys of which only old versions below a delete marker are left."""

    taken_at: datetime
    keys: int
    rows: int
    orphans: dict[str, int]
    orphans_past_margin: int
    hidden_orphans: int
    dangling: int
    wrong_tier: int
    wrong_day: int
    wrong_record: int
    shared: int
    unreadable_keys: int
    partitions: int
    differing: tuple[Partition, ...]

    @property
    def passed(self) -> bool:
        wrong = (self.dangling, self.wrong_tier, self.wrong_day, self.wrong_record, self.shared, self.unreadable_keys)
        return not any(wrong) and not self.orphans_past_margin and not self.hidden_orphans

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"passed": self.passed}


def reconcile(db: Scratch, dataset: Messages, taken_at: datetime, margin: timedelta) -> Report:
    """Compare what was loaded.

    Args:
        taken_at: when the objects were listed, or the inventory made: ages count to it.
        margin: so long an object may be without a row (the policy's orphan_margin).
    """
    pattern, landing = pattern_of(dataset.objects.partitioned), pattern_of(f"{dataset.objects.landing}{{record}}.json")
    _parse(db, "keys", pattern, landing, _KEYS)
    _parse(db, "named", pattern, landing, _NAMED)
    db.duck.execute("CREATE TABLE orphans AS SELECT k.* FROM keys k ANTI JOIN records r ON r.key = k.key")
    differing = db.duck.execute(_PARTITIONS + " WHERE objects <> rows ORDER BY abs(objects - rows) DESC, 1, 2 LIMIT ?",
                                [MOST_PARTITIONS]).fetchall()  # fmt: skip
    return Report(
        taken_at=taken_at,
        keys=db.value("SELECT count(*) FROM keys"),
        rows=db.value("SELECT count(*) FROM records"),
        orphans={name: _aged(db, taken_at, low, high) for name, low, high in _AGES},
        orphans_past_margin=db.value(_LIVE + " AND modified < ?", [taken_at - margin]),
        hidden_orphans=db.value("SELECT count(*) FROM orphans WHERE NOT live AND kept"),
        dangling=db.value("SELECT count(*) FROM records r ANTI JOIN keys k ON k.key = r.key AND k.live"),
        wrong_tier=db.value("SELECT count(*) FROM named WHERE said_tier <> '' AND said_tier <> tier"),
        wrong_day=db.value("SELECT count(*) FROM named WHERE said_day <> '' AND said_day <> day::VARCHAR"),
        wrong_record=db.value("SELECT count(*) FROM named WHERE said_record <> '' AND said_record <> record"),
        shared=db.value("SELECT count(*) FROM (SELECT key FROM records GROUP BY key HAVING count(*) > 1)"),
        unreadable_keys=db.value("SELECT count(*) FROM keys WHERE said_record = ''"),
        partitions=db.value(f"SELECT count(*) FROM ({_PARTITIONS})"),  # noqa: S608 - a constant
        differing=tuple(Partition(*row) for row in differing),
    )


_KEYS = (
    "SELECT key, bool_or(latest AND NOT marker) AS live, bool_or(NOT marker) AS kept, max(modified) AS modified"
    " FROM objects GROUP BY key"
)
_NAMED = "SELECT key, record, tier, day FROM records"
_LIVE = "SELECT count(*) FROM orphans WHERE live"
_PARTITIONS = (
    "SELECT * FROM (SELECT coalesce(o.tier, r.tier) AS tier, coalesce(o.day, r.day) AS day,"
    " coalesce(o.n, 0) AS objects, coalesce(r.n, 0) AS rows FROM"
    " (SELECT said_tier AS tier, said_day AS day, count(*) AS n FROM keys WHERE live AND said_tier <> ''"
    " GROUP BY ALL) o FULL JOIN"
    " (SELECT said_tier AS tier, said_day AS day, count(*) AS n FROM named WHERE said_tier <> ''"
    " GROUP BY ALL) r ON o.tier = r.tier AND o.day = r.day)"
)


def _parse(db: Scratch, name: str, pattern: str, landing: str, source: str) -> None:
    """A table of keys with what each says of tier, day and record; '' where it says nothing."""
    fields = ", ".join(f"'{group}'" for group in groups_of(pattern))
    db.duck.execute(
        f"CREATE TABLE {name} AS SELECT s.* EXCLUDE (said, landed), said.tier AS said_tier, said.day AS said_day,"  # noqa: S608 - names of our own
        " CASE WHEN said.record <> '' THEN said.record ELSE landed END AS said_record FROM"
        f" (SELECT *, regexp_extract(key, ?, [{fields}]) AS said, regexp_extract(key, ?, 1) AS landed"
        f" FROM ({source})) s",
        [pattern, landing],
    )


def _aged(db: Scratch, taken_at: datetime, low: int, high: int) -> int:
    """Orphans of an age in days."""
    youngest, oldest = taken_at - timedelta(days=low), taken_at - timedelta(days=min(high, 365 * 1000))
    found = db.value(_LIVE + " AND modified <= ? AND modified > ?", [youngest, oldest])
    return int(found)
