"""A tree that the real pg_partman made and goes on making (issue 4, point 1): `make test-partman` brings its script.

Not part of `make test`, since the script comes with a package of Debian. pg_partman 4 goes by the machine's clock.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from lifecycle.catalog.models import Catalog
from lifecycle.demo.servers import Postgres
from lifecycle.dispositions.leaves import tend
from lifecycle.orchestration.steps import carry_out
from lifecycle.planning.units import Method
from lifecycle.policy.models import Tier
from lifecycle.stores.postgres.connect import Connection
from lifecycle.stores.postgres.partitions import create_ahead, drain_default
from lifecycle.stores.postgres.swap import keep_still, swap_in
from lifecycle.stores.postgres.tree import Partition, partitions_of
from support.catalogue import scratch_database
from support.leaves import Table
from support.units import Bench

SCRIPT = os.environ.get("LIFECYCLE_PARTMAN_SQL", "")
pytestmark = pytest.mark.partman
DAY = timedelta(days=1)
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
# What a template is for: an index that a partitioned table cannot have.
_SET_UP = """
DROP TABLE app.messages_beta_default;
CREATE TABLE partman.like_this (LIKE app.messages);
CREATE UNIQUE INDEX ON partman.like_this (message_id, role);
SELECT partman.create_parent('app.messages_beta', 'received_at', 'native', 'daily', p_premake := 3,
    p_start_partition := (now() - interval '10 days')::text, p_template_table := 'partman.like_this');
"""


@pytest.fixture(scope="module")
def partman(postgres_server: Postgres) -> Iterator[Connection]:
    """The reference store, with one tier given over to pg_partman."""
    with scratch_database(postgres_server) as conninfo, psycopg.connect(conninfo, autocommit=True) as conn:
        text = Path(SCRIPT).read_text(encoding="utf-8").replace("@extschema@", "partman")
        # As CREATE EXTENSION does it, but for what only an extension can say of itself.
        text = re.sub(r"SELECT pg_catalog\.pg_extension_config_dump\(.*?\);|^\\.*$", "", text, flags=re.M)
        conn.execute("CREATE SCHEMA partman")
        conn.execute(text.encode())
        conn.execute(_SET_UP.encode())
        yield conn


def write(conn: Connection, *instants: datetime) -> None:
    for at in instants:
        conn.execute(
            "INSERT INTO app.messages (message_id, conversation_id, account_id, tier, role, received_at, body)"
            " VALUES (gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'beta', 'prompt', %s, 'x')",
            (at,),
        )


def beta(conn: Connection, catalog: Catalog) -> list[Partition]:
    return partitions_of(conn, catalog.messages, Tier.BETA)


def unique_of(conn: Connection, leaf: Partition) -> list[str]:
    rows = conn.execute(
        "SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = to_regclass(%s) AND indisunique"
        " AND NOT indisprimary",
        (leaf.identifier.as_string(conn),),
    ).fetchall()
    return [str(row[0]) for row in rows]


def test_its_partitions_and_its_default_are_found(partman: Connection, catalog: Catalog) -> None:
    found = beta(partman, catalog)
    assert [leaf.label for leaf in found] == [f"{TODAY + DAY * n:%Y-%m-%d}" for n in range(-10, 4)] + ["default"]
    assert found[0].name == f"messages_beta_p{TODAY - 10 * DAY:%Y_%m_%d}"
    assert found[-1].name == "messages_beta_default"


def test_what_it_made_is_replaced_as_it_is_and_it_goes_on_beside_us(partman: Connection, catalog: Catalog) -> None:
    """Survivors stay, with the template's index; days made ahead by us are called so that it does not make them again;
    what came to its default goes where it belongs."""
    day = TODAY - 8 * DAY
    write(partman, *(day + timedelta(hours=n) for n in range(10)), TODAY - 30 * DAY)
    leaf = next(each for each in beta(partman, catalog) if each.lower == day)
    before = unique_of(partman, leaf)
    assert len(before) == 1, "the template was not used"
    with partman.transaction():
        keep_still(partman, leaf)
        kept = swap_in(partman, leaf, sql.SQL("m.received_at >= {}").format(sql.Literal(day + timedelta(hours=7))), {})
    assert (kept, unique_of(partman, leaf)) == (3, before)

    assert create_ahead(partman, catalog.messages, Tier.BETA, TODAY) > 0
    assert drain_default(partman, catalog.messages, Tier.BETA) == 1
    ours = [leaf.name for leaf in beta(partman, catalog)]
    for _ in range(2):
        partman.execute("SELECT partman.run_maintenance('app.messages_beta')")
    theirs = partman.execute("SELECT partition_tablename FROM partman.show_partitions('app.messages_beta')").fetchall()
    assert {name for (name,) in theirs} >= set(ours) - {"messages_beta_default"}
    partman.execute("UPDATE partman.part_config SET premake = 12, infinite_time_partitions = true")
    partman.execute("SELECT partman.run_maintenance('app.messages_beta')")
    assert partman.execute("SELECT count(*) FROM app.messages").fetchone() == (4,)
    assert len(beta(partman, catalog)) == len({leaf.label for leaf in beta(partman, catalog)}) > len(ours)


_BY_DAY = """
CREATE TABLE app.spend_logs (id uuid NOT NULL, who uuid NOT NULL, created_at timestamptz NOT NULL, said text,
    PRIMARY KEY (id, created_at)) PARTITION BY RANGE (created_at);
CREATE INDEX ON app.spend_logs (created_at);
CREATE INDEX ON app.spend_logs (who);
SELECT partman.create_parent('app.spend_logs', 'created_at', 'native', 'daily', p_premake := 3,
    p_start_partition := (now() - interval '40 days')::text);
"""


def test_a_table_that_it_divides_by_day_alone_loses_whole_days_and_it_goes_on(partman: Connection) -> None:
    """Issue 4, points 1 and 3: survivors stay under its names, emptied days go, it makes days as before."""
    partman.execute(_BY_DAY.encode())
    table = Table(Bench("", partman))
    old, older, stray = TODAY - 36 * DAY, TODAY - 37 * DAY, TODAY - 60 * DAY
    held = uuid4()
    for day in (old, older, stray, TODAY - DAY):
        table.write(day, 5)
    kept = table.write(old, 1, who=held)
    table.bench.hold("account", held)
    context, units = table.plan(partman, as_of=datetime.now(UTC))
    for unit in units:
        carry_out(context, unit.unit)
    assert [(unit.unit, unit.method) for unit in units] == [
        (f"spend_logs/{older:%Y-%m-%d}", Method.SWAP),
        (f"spend_logs/{old:%Y-%m-%d}", Method.SWAP),
        ("spend_logs", Method.RECORDS),
    ]
    assert len(table.left()) == 6 and set(kept) <= table.left()
    leaves = table.leaves()
    assert f"spend_logs_p{old:%Y_%m_%d}" in leaves and f"spend_logs_p{older:%Y_%m_%d}" not in leaves
    tended = tend(replace(context, run=replace(context.run, planned_at=None)), table.dataset)
    assert tended["created"] == tended["merged"] == 0 and tended["dropped"] > 5
    partman.execute("UPDATE partman.part_config SET premake = 9, infinite_time_partitions = true")
    partman.execute("SELECT partman.run_maintenance('app.spend_logs')")
    after = set(table.leaves())
    assert f"spend_logs_p{old:%Y_%m_%d}" in after and f"spend_logs_p{TODAY + 9 * DAY:%Y_%m_%d}" in after
    assert len(table.left()) == 6
