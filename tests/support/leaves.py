"""An ordinary table that time alone divides, and units of it planned and carried out on PostgreSQL alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID, uuid4

from lifecycle.catalog.models import Catalog, Records
from lifecycle.config import load_configuration
from lifecycle.dispositions.context import RECORDS_SCOPE, RunContext
from lifecycle.dispositions.plan_store import freeze
from lifecycle.dispositions.survey import table_units
from lifecycle.ledger import runs
from lifecycle.orchestration.steps import carry_out
from lifecycle.planning.units import Unit
from lifecycle.stores.postgres.connect import Connection
from support.units import Bench

CONFIG = load_configuration()
# Business content of before 29 March, 12:00 UTC is due.
AS_OF = datetime(2026, 4, 23, 12, tzinfo=UTC)
DAY = timedelta(days=1)
CUTOFF = AS_OF - 25 * DAY
FIRST = datetime(2026, 3, 1, tzinfo=UTC)
BARE: dict[str, Any] = {
    "id": "spend_logs", "type": "table", "category": "prompts_and_outputs", "table": "app.spend_logs", "key": "id",
    "record": "id", "subject": "who", "clock": "created_at", "tier_is": "business",
}  # fmt: skip


def catalog_with(**changes: Any) -> Catalog:
    """The shipped datasets and a table."""
    document = CONFIG.catalog.model_dump(mode="json", by_alias=True, exclude_unset=True)
    document["datasets"] = [*document["datasets"], BARE | changes]
    return Catalog.model_validate(document)


@dataclass
class Table:
    """A table of rows a day, of which the first days are due, in a database of its own."""

    bench: Bench
    catalog: Catalog = field(default_factory=catalog_with)

    @property
    def dataset(self) -> Records:
        return next(each for each in self.catalog.tables if each.id == "spend_logs")

    def sql(self, query: str, *params: object) -> list[tuple[Any, ...]]:
        return self.bench.sql(query, *params)

    def make(self, *days: int) -> None:
        """The table with partitions of some days, counted from `FIRST`."""
        self.sql("DROP TABLE IF EXISTS app.spend_logs CASCADE")
        self.sql("DELETE FROM lifecycle.legal_holds")
        self.sql(
            "CREATE TABLE app.spend_logs (id uuid NOT NULL, who uuid NOT NULL, created_at timestamptz NOT NULL,"
            " said text, PRIMARY KEY (id, created_at)) PARTITION BY RANGE (created_at)"
        )
        self.sql("CREATE INDEX ON app.spend_logs (created_at)")
        self.sql("CREATE INDEX ON app.spend_logs (who)")
        for number in days:
            self.day(FIRST + number * DAY)

    def day(self, lower: datetime, upper: datetime | None = None) -> None:
        until = upper or lower + DAY
        self.sql(
            f"CREATE TABLE app.spend_logs_{lower:%Y%m%d} PARTITION OF app.spend_logs"
            f" FOR VALUES FROM ('{lower.isoformat()}') TO ('{until.isoformat()}')"
        )

    def write(self, at: datetime, count: int = 1, *, who: UUID | None = None) -> list[UUID]:
        """Rows of one day, a second apart; of one account, or of one each."""
        made = [uuid4() for _ in range(count)]
        for n, row in enumerate(made):
            self.sql(
                "INSERT INTO app.spend_logs VALUES (%s, %s, %s, 'words')",
                row,
                who or uuid4(),
                at + timedelta(seconds=n),
            )
        return made

    def left(self) -> set[UUID]:
        return {row for (row,) in self.sql("SELECT id FROM app.spend_logs")}

    def leaves(self) -> list[str]:
        rows = self.sql(
            "SELECT c.relname FROM pg_partition_tree('app.spend_logs') t JOIN pg_class c ON c.oid = t.relid"
            " WHERE t.isleaf ORDER BY 1"
        )
        return [name for (name,) in rows]

    # -- runs

    def begin(self, conn: Connection, *, as_of: datetime = AS_OF, scope: str = RECORDS_SCOPE) -> RunContext:
        run = runs.begin(
            conn,
            scope=scope,
            as_of=as_of,
            run_key=f"test/{uuid4()}",
            hashes=(CONFIG.policy_hash, CONFIG.catalog_hash),
            dry_run=False,
            owner=None,
        )
        conn.execute("UPDATE lifecycle.runs SET status = 'succeeded' WHERE run_id = %s", (run.run_id,))
        # No row here has an object, so nothing asks for the store of objects.
        return RunContext(conn, cast(Any, None), CONFIG.policy, self.catalog, run)

    def plan(self, conn: Connection, *, as_of: datetime = AS_OF) -> tuple[RunContext, list[Unit]]:
        context = self.begin(conn, as_of=as_of)
        found = [unit for unit in table_units(context, self.dataset) if unit.due]
        freeze(conn, context.run.run_id, found)
        return context, found

    def run(self, *, as_of: datetime = AS_OF) -> list[Unit]:
        """Plan and carry out; what was planned."""
        with self.bench.connect() as conn:
            context, found = self.plan(conn, as_of=as_of)
            for unit in found:
                carry_out(context, unit.unit)
        return found

    def ledger(self, units: Sequence[str]) -> dict[str, dict[str, int]]:
        """What the ledger says went with some units, by fate."""
        rows = self.sql(
            "SELECT disposition || ':' || rule, counts FROM lifecycle.ledger WHERE entry = 'outcome'"
            " AND unit = ANY(%s) ORDER BY seq",
            list(units),
        )
        return dict(rows)
