"""A `type: table` that time alone divides loses whole partitions: survivors are carried over, the rest is dropped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from lifecycle.demo.servers import Postgres
from lifecycle.dispositions import census
from lifecycle.dispositions.context import RECORDS_SCOPE
from lifecycle.dispositions.leaves import tend
from lifecycle.explain.waiting import what_waits
from lifecycle.ledger import approvals
from lifecycle.orchestration.steps import carry_out
from lifecycle.planning.units import Method
from lifecycle.stores.postgres import windows
from lifecycle.stores.postgres.candidates import of_records, own_rule
from lifecycle.stores.postgres.connect import Connection, prepared
from lifecycle.stores.postgres.grants import grants_script
from lifecycle.stores.postgres.online.facts import Name
from lifecycle.stores.postgres.online.switch import finish
from lifecycle.stores.postgres.references import ReferencedError
from lifecycle.stores.postgres.standing import measure
from lifecycle.stores.postgres.windows import in_windows
from lifecycle.validation.clocks import day_of
from lifecycle.validation.pending import pending_of
from lifecycle.validation.scene import Scene, Stage
from support.catalogue import scratch_database
from support.leaves import AS_OF, CONFIG, CUTOFF, DAY, FIRST, Table, catalog_with
from support.online import connected, convert, layout_of, work_on
from support.units import Bench

pytestmark = pytest.mark.timeout(120)
HELD = uuid4()
RULE = "delete:business_default"
KEPT = "keep:legal_obligation"
# The day in which the cut-off lies.
STRADDLES = CUTOFF.replace(hour=0)


@pytest.fixture(scope="module")
def bench(postgres_server: Postgres) -> Iterator[Bench]:
    with scratch_database(postgres_server) as conninfo:
        made = Bench(conninfo)
        yield made
        made.close()


@pytest.fixture
def table(bench: Bench) -> Table:
    """The first three days of March, the one in which the cut-off lies, and a young one."""
    made = Table(bench)
    made.make(0, 1, 2, 28, 43)
    bench.hold("account", HELD)
    return made


@pytest.fixture(params=["row by row", "from exceptions"])
def judged(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways in which a partition is judged."""
    if request.param == "from exceptions":
        monkeypatch.setattr(census, "LARGE", 0)


def oids(table: Table) -> dict[str, int]:
    rows = table.sql("SELECT c.relname, c.oid::bigint FROM pg_class c WHERE c.relname LIKE 'spend_logs%%'")
    return dict(rows)


@pytest.mark.usefixtures("judged")
def test_each_due_partition_is_a_unit_and_goes_whole_and_the_rest_goes_in_batches(table: Table) -> None:
    """Promises 4, 5 and 8: the plan says which, and the ledger what; the cut-off's own day keeps its table."""
    going = table.write(FIRST, 5)
    going += table.write(FIRST + DAY, 5)
    staying = table.write(FIRST + DAY, 2, who=HELD)
    mostly_staying, few = table.write(FIRST + 2 * DAY, 3, who=HELD), table.write(FIRST + 2 * DAY, 1)
    before, after = table.write(CUTOFF - timedelta(minutes=1), 2), table.write(CUTOFF, 2)
    young = table.write(AS_OF - 10 * DAY, 3)
    old = oids(table)
    with table.bench.connect() as conn:
        context, units = table.plan(conn)
        planned = {unit.unit: (unit.method, {t.fate: t.records for t in unit.tallies}) for unit in units}
        assert planned == {
            "spend_logs/2026-03-01": (Method.SWAP, {RULE: 5}),
            "spend_logs/2026-03-02": (Method.SWAP, {RULE: 5, KEPT: 2}),
            "spend_logs": (Method.RECORDS, {RULE: 3, KEPT: 3, "keep:business_default": 5}),
        }
        first = next(unit for unit in units if unit.unit == "spend_logs/2026-03-01")
        assert first.day == FIRST.date() and first.cutoff == CUTOFF and first.deadline == FIRST + 28 * DAY
        assert not set(going + few + before) - table.left(), "a plan reads only"
        # In whatever order: the rest leaves alone what is a unit of its own.
        carry_out(context, "spend_logs")
        assert set(going) <= table.left()
        for unit in units:
            carry_out(context, unit.unit)
    assert table.left() == {*staying, *mostly_staying, *after, *young}
    now = oids(table)
    assert "spend_logs_20260301" not in now, "an emptied day is dropped"
    assert now["spend_logs_20260302"] != old["spend_logs_20260302"], "what goes was deleted, not dropped"
    assert now["spend_logs_20260303"] == old["spend_logs_20260303"], "most of it stays, and it was replaced"
    assert now[f"spend_logs_{STRADDLES:%Y%m%d}"] == old[f"spend_logs_{STRADDLES:%Y%m%d}"]
    for name, (_, tallies) in planned.items():
        assert table.ledger([name]) == {RULE: {"records": tallies[RULE]}}
    assert not table.run(), "nothing is left to do"


def test_a_unit_that_is_repeated_or_gone_changes_nothing(table: Table) -> None:
    """Promise 4; and a partition that another tool (pg_partman) dropped meanwhile is no failure."""
    table.write(FIRST, 4)
    table.write(FIRST + DAY, 4)
    table.write(FIRST, 1, who=HELD)
    with table.bench.connect() as conn:
        context, units = table.plan(conn)
        assert [unit.unit for unit in units] == ["spend_logs/2026-03-01", "spend_logs/2026-03-02"]
        done = [carry_out(context, units[0].unit) for _ in range(3)]
        assert done[0] == done[1] == done[2] == {RULE: {"records": 4}}
        table.sql("DROP TABLE app.spend_logs_20260302")
        assert carry_out(context, units[1].unit) == {}
    assert table.ledger(["spend_logs/2026-03-01"]) == {RULE: {"records": 4}}
    assert len(table.left()) == 1


@pytest.mark.usefixtures("judged")
def test_a_hold_that_came_after_the_plan_keeps_its_rows(table: Table) -> None:
    """Case 4; promise 1."""
    who = uuid4()
    kept = table.write(FIRST, 2, who=who)
    table.write(FIRST, 7)
    with table.bench.connect() as conn:
        context, (unit,) = table.plan(conn)
        table.bench.hold("account", who)
        carry_out(context, unit.unit)
    assert table.left() == set(kept)
    assert table.ledger([unit.unit]) == {RULE: {"records": 7}}


@pytest.mark.usefixtures("judged")
def test_a_hold_on_the_whole_table_keeps_every_partition(table: Table) -> None:
    table.write(FIRST, 3)
    table.bench.hold("dataset", "app.spend_logs")
    assert not table.run() and len(table.left()) == 3


def test_default_partitions_and_partitions_without_an_end_go_in_batches(table: Table) -> None:
    """Case 12: nothing may be overlooked because no partition is for it."""
    table.sql("CREATE TABLE app.spend_logs_rest PARTITION OF app.spend_logs DEFAULT")
    table.sql(
        "CREATE TABLE app.spend_logs_before PARTITION OF app.spend_logs FOR VALUES FROM (MINVALUE) TO ('2020-01-01')"
    )
    table.write(FIRST - 300 * DAY, 2)
    table.write(FIRST - 3000 * DAY, 2)
    held = table.write(FIRST - 300 * DAY, 1, who=HELD)
    young = table.write(AS_OF - DAY, 1)
    assert [unit.unit for unit in table.run()] == ["spend_logs"]
    assert table.left() == {*held, *young}
    assert {"spend_logs_rest", "spend_logs_before"} <= set(table.leaves())


def test_partitions_below_partitions_go_whole_too(table: Table) -> None:
    """Months of days, as pg_partman makes them."""
    table.sql(
        "CREATE TABLE app.spend_logs_feb PARTITION OF app.spend_logs FOR VALUES FROM ('2026-02-01') TO ('2026-03-01')"
        " PARTITION BY RANGE (created_at)"
    )
    table.sql(
        "CREATE TABLE app.spend_logs_feb_1 PARTITION OF app.spend_logs_feb"
        " FOR VALUES FROM ('2026-02-01') TO ('2026-02-08')"
    )
    gone = table.write(FIRST - 26 * DAY, 3)
    kept = table.write(FIRST - 26 * DAY, 1, who=HELD)
    (unit,) = table.run()
    assert unit.unit == "spend_logs/2026-02-01..2026-02-08" and unit.method is Method.SWAP
    assert table.left() == set(kept) and table.ledger([unit.unit]) == {RULE: {"records": len(gone)}}


def test_a_table_that_something_else_divides_goes_in_batches(table: Table) -> None:
    table.sql("DROP TABLE app.spend_logs CASCADE")
    table.sql(
        "CREATE TABLE app.spend_logs (id uuid, who uuid, created_at timestamptz, said text, PRIMARY KEY (id))"
        " PARTITION BY HASH (id)"
    )
    table.sql("CREATE TABLE app.spend_logs_h PARTITION OF app.spend_logs FOR VALUES WITH (MODULUS 1, REMAINDER 0)")
    table.write(FIRST, 3)
    assert [(unit.unit, unit.method) for unit in table.run()] == [("spend_logs", Method.RECORDS)]
    assert not table.left()


@pytest.mark.usefixtures("judged")
@pytest.mark.parametrize("key", ["", ", FOREIGN KEY (log, at) REFERENCES app.spend_logs (id, created_at)"])
def test_what_belongs_to_dropped_rows_goes_with_them(table: Table, key: str) -> None:
    """Rows of children at any depth, with and without foreign keys; copies; case 13."""
    table.sql("DROP TABLE IF EXISTS app.parts, app.pieces, app.sessions CASCADE")
    table.sql(f"CREATE TABLE app.parts (part int PRIMARY KEY, log uuid, at timestamptz{key})")
    table.sql("CREATE TABLE app.pieces (part int, piece int)")
    table.sql("CREATE TABLE app.sessions (log uuid, last_said text)")
    children = [{"table": "app.parts", "key": "log", "children": [
        {"table": "app.pieces", "key": "part", "parent_key": "part"}]}]  # fmt: skip
    copies = [{"table": "app.sessions", "key": "log", "column": "last_said"}]
    table.catalog = catalog_with(children=children, copies=copies)
    table.write(FIRST, 3)
    table.write(FIRST, 1, who=HELD)
    table.sql("INSERT INTO app.parts SELECT row_number() OVER (ORDER BY who = %s, id), id, created_at FROM"
              " app.spend_logs", HELD)  # fmt: skip
    table.sql("INSERT INTO app.pieces SELECT part, n FROM app.parts, generate_series(1, 2) n")
    table.sql("INSERT INTO app.sessions SELECT id, said FROM app.spend_logs")
    (unit,) = table.run()
    assert unit.method is Method.SWAP and len(table.left()) == 1
    assert table.sql("SELECT part FROM app.parts") == [(4,)] and table.sql("SELECT * FROM app.pieces") == [
        (4, 1), (4, 2)]  # fmt: skip
    assert table.sql("SELECT count(last_said) FROM app.sessions") == [(1,)]
    assert table.ledger([unit.unit]) == {RULE: {"records": 3, "children": 9, "copies": 3}}
    erased = table.sql("SELECT relation, reclaimed_at IS NOT NULL FROM lifecycle.physical_erasure e WHERE run_id ="
                       " (SELECT max(run_id) FROM lifecycle.runs) ORDER BY 1")  # fmt: skip
    assert erased == [(f'"app"."{name}"', name.startswith("spend")) for name in (
        "parts", "pieces", "sessions", "spend_logs_20260301")], "a vacuum is still owed"  # fmt: skip


def test_a_foreign_key_from_outside_is_met_as_by_rows(table: Table) -> None:
    """Case 13: what nobody configured is refused by name where it would act, and stops what it forbids."""
    table.sql("DROP TABLE IF EXISTS app.invoices CASCADE")
    table.sql("CREATE TABLE app.invoices (log uuid, at timestamptz, CONSTRAINT billed FOREIGN KEY (log, at)"
              " REFERENCES app.spend_logs ON DELETE CASCADE)")  # fmt: skip
    rows = table.write(FIRST, 3)
    table.sql("INSERT INTO app.invoices SELECT id, created_at FROM app.spend_logs WHERE id = %s", rows[0])
    with pytest.raises(ReferencedError, match=r"billed of table app\.invoices"):
        table.run()
    assert table.left() == set(rows) and table.sql("SELECT count(*) FROM app.invoices") == [(1,)]
    table.sql("ALTER TABLE app.invoices DROP CONSTRAINT billed, ADD CONSTRAINT billed FOREIGN KEY (log, at)"
              " REFERENCES app.spend_logs")  # fmt: skip
    with pytest.raises(ReferencedError, match=r"app\.invoices"):
        table.run()
    assert set(rows[:1]) <= table.left()
    table.sql("DELETE FROM app.invoices")
    table.run()
    assert not table.left()


def test_where_something_holds_on_to_a_partition_its_rows_go_one_by_one_and_are_erased(table: Table) -> None:
    """Case 18: by the unit of the partition, and a vacuum reclaims them."""
    going, staying = table.write(FIRST, 3), table.write(FIRST, 1, who=HELD)
    table.write(FIRST + DAY, 2)
    table.sql("CREATE VIEW app.first_day AS SELECT id FROM app.spend_logs_20260301")
    before = oids(table)
    units = [unit.unit for unit in table.run()]
    assert units == ["spend_logs/2026-03-01", "spend_logs/2026-03-02"]
    assert table.left() == set(staying) and not set(going) & table.left()
    assert oids(table)["spend_logs_20260301"] == before["spend_logs_20260301"]
    assert table.ledger(units[:1]) == {RULE: {"records": 3}}
    erased = "SELECT relation, reclaimed_at IS NOT NULL FROM lifecycle.physical_erasure WHERE unit = %s AND run_id ="
    assert table.sql(erased + " (SELECT max(run_id) FROM lifecycle.runs)", units[0]) == [
        ('"app"."spend_logs_20260301"', True)]  # fmt: skip


def test_a_hold_on_a_child_keeps_the_rows_that_its_rows_refer_to(table: Table) -> None:
    """Case 4: the unit fails by name, nothing of it is gone, and the next run after the release does it."""
    table.sql("DROP TABLE IF EXISTS app.parts CASCADE")
    table.sql("CREATE TABLE app.parts (log uuid, at timestamptz, FOREIGN KEY (log, at) REFERENCES app.spend_logs)")
    table.catalog = catalog_with(children=[{"table": "app.parts", "key": "log"}])
    rows = table.write(FIRST, 3)
    table.sql("INSERT INTO app.parts SELECT id, created_at FROM app.spend_logs LIMIT 1")
    table.bench.hold("dataset", "app.parts")
    with pytest.raises(ReferencedError, match=r"app\.parts"):
        table.run()
    assert table.left() == set(rows) and table.sql("SELECT count(*) FROM app.parts") == [(1,)]
    failed = "SELECT status FROM lifecycle.plan_units WHERE run_id = (SELECT max(run_id) FROM lifecycle.runs)"
    assert table.sql(failed) == [("failed",)]
    table.sql("DELETE FROM lifecycle.legal_holds")
    table.run()
    assert not table.left() and table.sql("SELECT count(*) FROM app.parts") == [(0,)]


def test_more_belongings_than_fit_a_short_transaction_go_in_batches(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lifecycle.dispositions.leaves.MOST_WITH_BELONGINGS", 2)
    table.sql("CREATE TABLE IF NOT EXISTS app.tools (log uuid, tool text)")
    table.write(FIRST, 3)
    assert [unit.unit for unit in table.run()] == ["spend_logs/2026-03-01"], "nothing belongs to them"
    table.catalog = catalog_with(children=[{"table": "app.tools", "key": "log"}])
    table.write(FIRST + DAY, 3)
    assert [unit.unit for unit in table.run()] == ["spend_logs"]
    assert not table.left()


def as_role(table: Table, name: str) -> Connection:
    conn = prepared(psycopg.connect(table.bench.conninfo, autocommit=True))
    conn.execute(sql.SQL("SET SESSION AUTHORIZATION {}").format(sql.Identifier(name)))
    return conn


def test_the_role_of_the_grants_replaces_partitions_and_one_without_ownership_goes_on_in_batches(
    table: Table, caplog: pytest.LogCaptureFixture
) -> None:
    """Who ran with the rights of before must not fail: the log says what to grant."""
    name = f"Leaves' run-{uuid4().hex[:8]}"
    table.sql("DROP TABLE IF EXISTS app.parts CASCADE")
    table.sql("CREATE TABLE app.parts (log uuid, at timestamptz, FOREIGN KEY (log, at) REFERENCES app.spend_logs)")
    table.sql("CREATE INDEX ON app.parts (log)")
    table.catalog = catalog_with(children=[{"table": "app.parts", "key": "log"}])
    script = grants_script(table.catalog, name)
    for _ in range(2):  # it may be repeated
        table.sql(script)
    try:
        for day in (FIRST, FIRST + DAY):
            table.write(day, 3)
            kept = table.write(day, 1, who=HELD)
        table.sql("INSERT INTO app.parts SELECT id, created_at FROM app.spend_logs")
        with as_role(table, name) as conn:
            context, units = table.plan(conn)
            assert [unit.unit for unit in units] == ["spend_logs/2026-03-01", "spend_logs/2026-03-02"]
            carry_out(context, units[0].unit)
            assert "one by one" not in caplog.text
            for each in ("app.spend_logs", *(f"app.{leaf}" for leaf in table.leaves())):
                table.sql(f"ALTER TABLE {each} OWNER TO postgres")
            context, units = table.plan(conn)
            assert [unit.unit for unit in units] == ["spend_logs"]
            carry_out(context, "spend_logs")
        assert "lifecycle postgres grants" in caplog.text
        assert len(table.left()) == 2 and kept[0] in table.left()
        assert table.sql("SELECT count(*) FROM app.parts") == [(2,)]
    finally:
        for each in (name, f"{name}_owner"):
            role = sql.Identifier(each).as_string(None)
            table.sql(f"REASSIGN OWNED BY {role} TO CURRENT_USER")
            table.sql(f"DROP OWNED BY {role}")
        for each in (name, f"{name}_owner"):
            table.sql(f"DROP ROLE {sql.Identifier(each).as_string(None)}")


def test_a_table_that_was_divided_online_loses_whole_days_once_that_is_finished(table: Table) -> None:
    """Issue 4, point 3. Until then the mirror of the ordinary table sees rows go, and no partitions."""
    table.sql("DROP TABLE app.spend_logs CASCADE")
    table.sql("CREATE TABLE app.spend_logs (id uuid PRIMARY KEY, who uuid, created_at timestamptz NOT NULL, said text)")
    table.sql("CREATE INDEX ON app.spend_logs (created_at)")
    table.write(FIRST, 3)
    table.write(FIRST + DAY, 4)
    with connected(table.bench.conninfo) as conn:
        work = work_on(conn)
        switched = convert(work, layout_of(Name("app", "spend_logs"), tier=None, clock="created_at"))
        table.sql("DELETE FROM app.spend_logs WHERE created_at >= %s", FIRST + DAY)
        assert [unit.unit for unit in table.run()] == ["spend_logs"]
        assert not table.left() and table.sql("SELECT count(*) FROM app.spend_logs_unpartitioned") == [(0,)]
        table.write(FIRST, 3)
        table.write(FIRST + DAY, 4)
        finish(work, switched)
    assert [unit.unit for unit in table.run()] == ["spend_logs/2026-03-01", "spend_logs/2026-03-02"]
    assert not table.left() and "spend_logs_20260301" not in table.leaves()


def test_the_auditor_knows_which_days_wait_for_an_approval(table: Table) -> None:
    """Case 26: of a week that waits all seven days may be late; the rest of the table may not."""
    table.day(FIRST - 7 * DAY, FIRST)
    table.write(FIRST - 3 * DAY, 3)
    with table.bench.connect() as conn:
        context, (unit,) = table.plan(conn)
        assert unit.unit == "spend_logs/2026-02-22..2026-03-01"
        conn.execute("UPDATE lifecycle.plan_units SET status = 'awaiting' WHERE run_id = %s", (context.run.run_id,))
        waiting = pending_of(conn, CONFIG, RECORDS_SCOPE, context.run.run_id, AS_OF).units
        assert waiting == {("spend_logs", None, (FIRST - n * DAY).date()) for n in range(1, 8)}
        stage = Stage(*(sql.Identifier("nowhere"),) * 3)
        scene = Scene(context.policy, table.catalog, stage, AS_OF, AS_OF, RECORDS_SCOPE, awaiting=waiting)
        late = scene.awaits_table(table.dataset, day_of(table.dataset.clock, "r"))
        table.write(FIRST, 2)
        query = sql.SQL("SELECT {}, count(*) FROM app.spend_logs r GROUP BY 1 ORDER BY 1").format(late)
        assert conn.execute(query).fetchall() == [(False, 2), (True, 3)]
        conn.execute("UPDATE lifecycle.plan_units SET status = 'done' WHERE run_id = %s", (context.run.run_id,))


def test_emptied_partitions_of_the_past_are_dropped_and_nothing_else_is(table: Table) -> None:
    """Issue 4, point 1: their number stays bounded; what holds anything stays as whoever makes them made it."""
    table.write(FIRST + DAY, 1, who=HELD)
    table.write(FIRST + 2 * DAY, 1, who=HELD)
    with table.bench.connect() as conn:
        begun = table.begin(conn)
        context = replace(begun, run=replace(begun.run, planned_at=None))
        assert tend(context, table.dataset) == {"created": 0, "dropped": 1, "merged": 0}
    assert table.leaves() == [f"spend_logs_{FIRST + n * DAY:%Y%m%d}" for n in (1, 2, 28, 43)]


def test_where_the_file_says_so_partitions_are_made_ahead_drained_and_merged(table: Table) -> None:
    """Case 12, for a table that nobody else looks after."""
    table.catalog = catalog_with(create_ahead="P2D")
    february = FIRST - 28 * DAY
    for day in (february, february + DAY, february + 27 * DAY):
        table.day(day)
        table.write(day, 1, who=HELD)
    table.sql("CREATE TABLE app.spend_logs_default PARTITION OF app.spend_logs DEFAULT")
    strays = table.write(february + 5 * DAY, 1, who=HELD) + table.write(AS_OF - 3 * DAY, 2)
    with table.bench.connect() as conn:
        begun = table.begin(conn)
        context = replace(begun, run=replace(begun.run, planned_at=None))
        # Three days ahead; the strays' two days; the empty ones of March; and the four of February become one.
        assert tend(context, table.dataset) == {"created": 3, "drained": 3, "dropped": 3, "merged": 4}
    assert "spend_logs_202602" in table.leaves() and not table.sql("SELECT FROM ONLY app.spend_logs_default")
    assert len(table.left()) == 6 and set(strays) <= table.left()


def test_a_record_whose_partition_waits_for_an_approval_is_told_so(table: Table) -> None:
    table.write(FIRST, 3)
    config = replace(CONFIG, catalog=table.catalog)
    with table.bench.connect() as conn:
        context, (unit,) = table.plan(conn)
        key = approvals.Key(CONFIG.policy_hash, CONFIG.catalog_hash)
        approvals.ask(conn, approvals.Request(
            approvals.PLAN, key, {}, "somebody", AS_OF, context.run.run_id, RECORDS_SCOPE, {unit.unit: 3}))  # fmt: skip
        for at, waits in ((FIRST, 1), (FIRST + DAY, 0)):
            found = {"dataset": "spend_logs", "clock": at}
            assert len(what_waits(conn, config, "record", found, lambda _: {})) == waits
        conn.execute("UPDATE lifecycle.approvals SET status = 'superseded'")


def test_where_it_stands_is_asked_some_partitions_at_a_time(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL remembers every partition that a statement may touch (issue 4: planning over many partitions)."""
    table.write(FIRST, 3)
    table.write(FIRST, 1, who=HELD)
    table.write(FIRST + 2 * DAY, 2)
    table.write(AS_OF - 10 * DAY, 2)
    rule = own_rule(CONFIG.policy, table.dataset)
    assert rule is not None
    source = of_records(CONFIG.policy, table.catalog, table.dataset, rule)
    with table.bench.connect() as conn:
        whole = measure(conn, source, "spend_logs", RECORDS_SCOPE, AS_OF, None)
        assert (whole.due, whole.oldest, len(in_windows(conn, source))) == (5, FIRST, 1)
        monkeypatch.setattr(windows, "TOGETHER", 2)
        assert len(in_windows(conn, source)) == 3
        assert measure(conn, source, "spend_logs", RECORDS_SCOPE, AS_OF, None) == whole
