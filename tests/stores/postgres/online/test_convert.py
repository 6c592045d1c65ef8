"""From an ordinary table to a partitioned one, without company."""

from __future__ import annotations

from lifecycle.stores.postgres.connect import Connection
from lifecycle.stores.postgres.online.facts import Name
from lifecycle.stores.postgres.online.state import Phase
from support.online import bounds_of, convert, layout_of, plain_table, rows_of, work_on


def test_every_row_is_in_the_partition_of_its_tier_and_day(conn: Connection, table: Name) -> None:
    plain_table(conn, table)
    before = rows_of(conn, table)
    done = convert(work_on(conn), layout_of(table))
    assert done.phase is Phase.SWITCHED
    assert rows_of(conn, table) == before
    bounds = bounds_of(conn, table)
    assert bounds["Events_beta_20260603"] == "FOR VALUES FROM ('2026-06-03 00:00:00+00') TO ('2026-06-04 00:00:00+00')"
    assert bounds["Events_default"] == bounds["Events_beta_default"] == "DEFAULT"
