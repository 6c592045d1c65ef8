"""Units of messages planned and carried out on PostgreSQL alone: no object store, no scheduler, hand-made rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID, uuid4

import psycopg

from lifecycle.config import load_configuration
from lifecycle.dispositions.context import RunContext
from lifecycle.dispositions.expire import expire
from lifecycle.dispositions.plan_store import freeze
from lifecycle.dispositions.survey import message_units
from lifecycle.ledger import runs
from lifecycle.policy.models import Tier
from lifecycle.stores.postgres.connect import Connection, prepared

CONFIG = load_configuration()
AS_OF = datetime(2026, 11, 1, tzinfo=UTC)
DAY = timedelta(days=1)
TIER = Tier.BETA


@dataclass
class Bench:
    """A database of its own, and connections to it in the project's settings."""

    conninfo: str
    _mine: Connection | None = None

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        with psycopg.connect(self.conninfo, autocommit=True) as conn:
            yield prepared(conn)

    def sql(self, query: str, *params: object) -> list[tuple[Any, ...]]:
        if self._mine is None:
            self._mine = prepared(psycopg.connect(self.conninfo, autocommit=True))
        cursor = self._mine.execute(query.encode(), params or None)
        return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        if self._mine is not None:
            self._mine.close()

    def value(self, query: str, *params: object) -> Any:
        return self.sql(query, *params)[0][0]

    def day(self, age: int) -> datetime:
        """Makes the partition of the day so many days before `AS_OF`, if it is missing; gives its start."""
        start = AS_OF - age * DAY
        self.sql(
            f"CREATE TABLE IF NOT EXISTS {self.leaf(age)} PARTITION OF app.messages_{TIER.value}"
            f" FOR VALUES FROM ('{start.isoformat()}') TO ('{(start + DAY).isoformat()}')"
        )
        return start

    @staticmethod
    def leaf(age: int) -> str:
        return f"app.messages_{TIER.value}_{AS_OF - age * DAY:%Y%m%d}"

    def write(
        self, age: int, count: int = 1, *, account: UUID | None = None, conn: Connection | None = None
    ) -> list[UUID]:
        """Messages of one day, a second apart; of one account, or of one each."""
        made = [uuid4() for _ in range(count)]
        rows = [
            (record, uuid4(), account or uuid4(), TIER.value, AS_OF - age * DAY + timedelta(seconds=n))
            for n, record in enumerate(made)
        ]
        query = (
            "INSERT INTO app.messages (message_id, conversation_id, account_id, tier, role, received_at, body)"
            " VALUES (%s, %s, %s, %s, 'prompt', %s, 'words')"
        )
        if conn is not None:
            conn.cursor().executemany(query, rows)
            return made
        with self.connect() as own, own.transaction():
            own.cursor().executemany(query, rows)
        return made

    def hold(self, scope: str, target: object) -> None:
        self.sql(
            "INSERT INTO lifecycle.legal_holds (scope, target, reason, placed_by) VALUES (%s, %s, 'case', 'counsel')",
            scope,
            str(target),
        )

    def records(self, age: int) -> set[UUID]:
        """What is left of a day, wherever it is."""
        start = AS_OF - age * DAY
        query = "SELECT message_id FROM app.messages WHERE tier = %s AND received_at >= %s AND received_at < %s"
        return {record for (record,) in self.sql(query, TIER.value, start, start + DAY)}

    # -- runs

    def plan(self, conn: Connection, *ages: int) -> tuple[RunContext, list[str]]:
        """A run with the units of some days as its plan, in order of their deadlines."""
        run = runs.begin(
            conn,
            scope=TIER.value,
            as_of=AS_OF,
            run_key=f"test/{uuid4()}",
            hashes=(CONFIG.policy_hash, CONFIG.catalog_hash),
            dry_run=False,
            owner=None,
        )
        # No row here has an object, so nothing asks for the store of objects.
        context = RunContext(conn, cast(Any, None), CONFIG.policy, CONFIG.catalog, run)
        wanted = {(AS_OF - age * DAY).date() for age in ages}
        found = [unit for unit in message_units(context, TIER) if not wanted or unit.day in wanted]
        freeze(conn, run.run_id, found)
        conn.execute("UPDATE lifecycle.runs SET status = 'succeeded' WHERE run_id = %s", (run.run_id,))
        return context, [unit.unit for unit in found]

    def expire(self, *ages: int) -> dict[str, dict[str, int]]:
        """Plan some days and carry them out; counts of all by fate."""
        done: dict[str, dict[str, int]] = {}
        with self.connect() as conn:
            context, units = self.plan(conn, *ages)
            for unit in units:
                for fate, counts in expire(context, unit).items():
                    into = done.setdefault(fate, {})
                    for name, count in counts.items():
                        into[name] = into.get(name, 0) + count
        return done

    def ledger(self, unit: str | Sequence[str]) -> int:
        """How many records the ledger says went with a unit."""
        units = [unit] if isinstance(unit, str) else list(unit)
        return int(
            self.value(
                "SELECT coalesce(sum((counts->>'records')::int), 0) FROM lifecycle.ledger"
                " WHERE entry = 'outcome' AND unit = ANY(%s)",
                units,
            )
        )
