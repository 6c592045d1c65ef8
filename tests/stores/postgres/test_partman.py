"""A tree that the real pg_partman made and goes on making (issue 4, point 1): `make test-partman` brings its script.

Not part of `make test`, since the script comes with a package of Debian. pg_partman 4 goes by the machine's clock.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from lifecycle.catalog.models import Catalog
from lifecycle.demo.servers import Postgres
from lifecycle.policy.models import Tier
from lifecycle.stores.postgres.connect import Connection
from lifecycle.stores.postgres.partitions import create_ahead, drain_default
from lifecycle.stores.postgres.swap import keep_still, swap_in
from lifecycle.stores.postgres.tree import Partition, partitions_of
from support.catalogue import scratch_database

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
