"""Tables of the reference store, divided by time alone: as an application's own may be, with the same rows."""

from __future__ import annotations

from datetime import UTC, datetime

from support.store import Store

# Of each, its clock and the age in years at which its rows go: there it is divided into months, elsewhere not at all.
DIVIDED = {"safety_scores": ("scored_at", 7), "feedback": ("submitted_at", 10)}


def divide(store: Store, as_of: datetime) -> None:
    """Months around the cut-off, everything else in a default partition, and an index on each column that had one."""
    for name, (clock, age) in DIVIDED.items():
        indexed = store.sql(
            "SELECT DISTINCT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid"
            f" AND a.attnum = ANY (i.indkey) WHERE i.indrelid = 'app.{name}'::regclass"
        )
        store.sql(f"ALTER TABLE app.{name} RENAME TO whole_{name}")
        store.sql(f"CREATE TABLE app.{name} (LIKE app.whole_{name} INCLUDING DEFAULTS) PARTITION BY RANGE ({clock})")
        for (column,) in indexed:
            store.sql(f"CREATE INDEX ON app.{name} ({column})")
        first = (as_of.year - age) * 12 + as_of.month - 4
        for month in range(first, first + 6):
            lower, upper = (datetime(n // 12, n % 12 + 1, 1, tzinfo=UTC).isoformat() for n in (month, month + 1))
            store.sql(f"CREATE TABLE app.{name}_{month} PARTITION OF app.{name} FOR VALUES FROM ('{lower}')"
                      f" TO ('{upper}')")  # fmt: skip
        store.sql(f"CREATE TABLE app.{name}_rest PARTITION OF app.{name} DEFAULT")
        store.sql(f"INSERT INTO app.{name} SELECT * FROM app.whole_{name}")
        store.sql(f"DROP TABLE app.whole_{name}")
