"""A partition judged from its exceptions: rows that something names are found by index and judged one by one, the
others share one fate and are only counted. So it costs what its exceptions cost, whatever it holds (promise 8)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from psycopg import sql

from lifecycle.catalog.models import Catalog, Messages, Records
from lifecycle.planning.cutoffs import cutoff_of
from lifecycle.planning.units import Tally
from lifecycle.policy.decide import horizon
from lifecycle.policy.models import Category, Disposition, Policy, Rule, Tier, Trigger
from lifecycle.stores.postgres.bounds import Bounds
from lifecycle.stores.postgres.candidates import BOUND, Source, ids_of, of_messages, of_records, parties
from lifecycle.stores.postgres.connect import Connection
from lifecycle.stores.postgres.fates import ERASURES, HOLD_OPEN, HOLDS, messages_of_held_conversations
from lifecycle.stores.postgres.ids import Ids, folded, found_in, named_ids, own
from lifecycle.stores.postgres.messages import is_due
from lifecycle.stores.postgres.present import TRUE, of_share
from lifecycle.stores.postgres.standing import everything_held
from lifecycle.stores.postgres.tree import Partition

WITH_OBJECT = "keep:object_not_gone"
# Where months differ in length, a cut-off is exact within four days only.
_SLACK = timedelta(days=5)


def ordinary_fate(policy: Policy, tier: Tier, dataset: Messages, leaf: Partition, as_of: datetime) -> str | None:
    """The fate of every row of a partition that no exception names; None where its rows may differ in it.

    They do where the cut-off, or as-of, lies inside the partition, in a partition without bounds, and where rows that
    tell no time may lie between others: those are kept, and only looking at each row finds them.
    """
    rule = policy.rule_for(Trigger.DEFAULT, dataset.category, tier)
    if rule is None or rule.period is None or leaf.lower is None or leaf.upper is None or leaf.default:
        return None
    if not Bounds(dataset.clock).tells_all or leaf.earliest is None or leaf.latest is None:
        return None
    struck = cutoff_of(policy, rule, as_of) - (_SLACK if rule.period.months else timedelta())
    if leaf.latest <= struck:
        chosen = policy.variant_of(rule, tier) or rule
        return f"{chosen.disposition.value}:{chosen.id}"
    if leaf.latest <= as_of and leaf.earliest >= waiting_from(policy, tier, dataset, as_of):
        return f"{Disposition.KEEP.value}:{rule.id}"
    return None


def waiting_from(policy: Policy, tier: Tier, dataset: Messages, as_of: datetime) -> datetime:
    """From this clock on no default strikes yet."""
    rule = policy.rule_for(Trigger.DEFAULT, dataset.category, tier)
    if rule is None or rule.period is None:
        return as_of
    return min(rule.period.cutoff_bound(as_of if rule.round_up else horizon(policy, as_of)), as_of)


def source_of(policy: Policy, catalog: Catalog, dataset: Records, rule: Rule, relation: sql.Composable) -> Source:
    """The rows of one partition of an ordinary table, with what finds a row again."""
    source = of_records(policy, catalog, dataset, rule)
    return replace(source, relation=relation, names=("ctid", "tableoid", *source.names))


def _objects(source: Source, alias: str) -> sql.Composable:
    """The column that tells whether a row has an object; null where rows have none."""
    if isinstance(source.dataset, Messages):
        return sql.Identifier(alias, source.dataset.objects.column)
    return sql.SQL("NULL::text")


def leaf_source(policy: Policy, catalog: Catalog, tier: Tier, relation: sql.Composable) -> Source:
    """The messages of one tier in one table, with what finds a row again and tells whether it has an object."""
    source = of_messages(policy, catalog, tier)
    names = ("ctid", "tableoid", catalog.messages.objects.column, *source.names)
    return replace(source, relation=relation, names=names)


def is_held_whole(conn: Connection, source: Source, params: dict[str, Any]) -> bool:
    """Whether a hold keeps the whole dataset: then no row has the ordinary fate."""
    row = conn.execute(everything_held(source), params).fetchone()
    return bool(row and row[0])


def _few(source: Source) -> Iterator[tuple[sql.Composable, sql.Composable]]:
    """Columns, and the ids to look up in them by index."""
    columns = source.columns
    for scope, (column, ids) in columns.scoped.items():
        if source.rule_of(Trigger.HOLD) is not None:
            yield column, named_ids(HOLDS, scope, HOLD_OPEN, ids)
        if source.rule_of(Trigger.ERASURE) is not None:
            yield column, named_ids(ERASURES, scope, TRUE, ids)
    subjects: list[tuple[sql.Composable, Ids]] = []
    if source.rule_of(Trigger.CASE) is not None:
        cases = source.catalog.cases
        still = ids_of(cases, cases.closed, "({0} IS NULL OR {0} > %(as_of)s)", columns.subject_ids)
        subjects.append((still, cases.ids))
    if source.rule_of(Trigger.AGREEMENT) is not None:
        subjects.append((parties(source), source.catalog.agreements.ids))
    for query, theirs in subjects:
        found = found_in(query, columns.subject_ids, theirs)
        if found is not None:
            yield columns.subject, found


def _many(source: Source) -> Iterator[sql.Composable]:
    """Conditions on rows that exceptions name of which there can be very many: PostgreSQL chooses how to find them."""
    columns, catalog = source.columns, source.catalog
    if columns.record is not None and source.rule_of(Trigger.FLAG) is not None:
        flags = catalog.flags
        still = ids_of(flags, flags.cleared, "({0} IS NULL OR {0} > %(as_of)s)", columns.ids)
        yield sql.SQL("{} IN {}").format(own(columns.record, columns.ids), _as_own(still, columns.ids))
    reached = columns.group is None and columns.record is not None and catalog.has_messages
    if reached and columns.record is not None and source.rule_of(Trigger.HOLD) is not None:
        # A hold on a conversation reaches a record by way of its message.
        yield sql.SQL("(EXISTS {} AND {} IN {})").format(
            named_ids(HOLDS, "conversation", HOLD_OPEN, "uuid"),
            folded(columns.record, columns.ids),
            messages_of_held_conversations(source.catalog, HOLD_OPEN),
        )
    feedback = source.category is Category.FEEDBACK  # whose ordinary rule the consent is
    if columns.group is not None and not feedback and source.rule_of(Trigger.CONSENT) is not None:
        consents = catalog.consents
        still = ids_of(consents, consents.withdrawn, "({0} IS NULL OR {0} > %(as_of)s)", columns.ids)
        yield sql.SQL("{} IN {}").format(own(columns.group, columns.ids), _as_own(still, columns.ids))


def _as_own(query: sql.Composable, ids: Ids) -> sql.Composable:
    return query if ids == "uuid" else sql.SQL("(SELECT z.id::text FROM {} z(id))").format(query)


def _in_any_case(source: Source) -> Iterator[sql.Composable]:
    """Conditions on rows whose ids are text and that holds name in another case of letters. No index finds them, so
    rows are read, but only while there is such a hold."""
    if source.rule_of(Trigger.HOLD) is None:
        return
    lettered = sql.SQL("{} AND lower(x.target) <> upper(x.target)").format(HOLD_OPEN)
    for scope, (column, ids) in source.columns.scoped.items():
        if ids != "text":
            continue
        targets = sql.SQL("(SELECT lower(btrim(x.target)) FROM {} x WHERE x.scope = {} AND {})").format(
            HOLDS, sql.Literal(scope), lettered
        )
        yield sql.SQL("(EXISTS {0} AND {1} IN {0})").format(targets, folded(column, "text"))


def named_rows(source: Source, which: sql.Composable = TRUE, *, every: bool = True) -> sql.Composed:
    """Every row that an exception in force may concern, each once, with its fate. Binds `fate_parameters`.

    Args:
        which: narrows the rows.
        every: also what holds name in another case of letters; not needed where rows stay anyhow.
    """
    shown, relation = source.shown, source.relation
    queries = [
        sql.SQL(
            "SELECT {shown} FROM (SELECT DISTINCT s.id FROM {ids} s(id)) t CROSS JOIN LATERAL"
            " (SELECT {shown} FROM {relation} m WHERE {column} = t.id AND {which} OFFSET 0) m"
        ).format(shown=shown, ids=ids, relation=relation, column=column, which=which)
        for column, ids in _few(source)
    ]
    queries += [
        sql.SQL("SELECT {} FROM {} m WHERE {} AND {}").format(shown, relation, condition, which)
        for condition in (*_many(source), *(_in_any_case(source) if every else ()))
    ]
    queries = queries or [sql.SQL("SELECT {} FROM {} m WHERE false").format(shown, relation)]
    return sql.SQL("SELECT m.*, d.fate FROM ({rows}) m CROSS JOIN LATERAL (SELECT {fate} AS fate OFFSET 0) d").format(
        rows=sql.SQL(" UNION ").join(queries), fate=source.fate
    )


def tallies_by_exceptions(conn: Connection, source: Source, ordinary: str, params: dict[str, Any]) -> list[Tally]:
    """Counts of one partition by fate, exactly as asking every row gives them.

    Args:
        source: see `leaf_source`.
        ordinary: see `ordinary_fate`; a dataset that is held whole has none.
    """
    query = sql.SQL(
        "WITH named AS MATERIALIZED ({named}), whole AS MATERIALIZED (SELECT"
        " (SELECT count(*) FROM {relation}) AS records,"
        " (SELECT count(*) FROM {relation} m WHERE {key} IS NOT NULL) AS objects),"
        " rest AS (SELECT w.records - (SELECT count(*) FROM named) AS records,"
        " w.objects - (SELECT count({named_key}) FROM named n) AS objects,"
        " (SELECT {clock} FROM {relation} m WHERE NOT EXISTS (SELECT FROM named n WHERE n.ctid = m.ctid)"
        " ORDER BY {bare} LIMIT 1) AS oldest FROM whole w)"
        " SELECT n.fate, count(*), count({named_key}), min({named_clock}) FROM named n GROUP BY 1"
        " UNION ALL SELECT {ordinary}, r.records, r.objects, r.oldest FROM rest r WHERE r.records > 0"
    ).format(
        named=named_rows(source),
        relation=source.relation,
        key=_objects(source, "m"),
        named_key=_objects(source, "n"),
        clock=source.columns.clock,
        bare=source.columns.at.bare,
        named_clock=source.columns_of("n").clock,
        ordinary=sql.Literal(ordinary),
    )
    return _summed(Tally(*row) for row in conn.execute(query, params).fetchall())


def _summed(tallies: Iterable[Tally]) -> list[Tally]:
    found: dict[str, Tally] = {}
    for tally in tallies:
        found[tally.fate] = _added(found.get(tally.fate), tally)
    return sorted(found.values(), key=lambda tally: tally.fate)


def _added(one: Tally | None, other: Tally) -> Tally:
    if one is None:
        return other
    known = [oldest for oldest in (one.oldest, other.oldest) if oldest is not None]
    return Tally(one.fate, one.records + other.records, one.objects + other.objects, min(known, default=None))


def carry_over(
    conn: Connection,
    source: Source,
    ordinary: str,
    params: dict[str, Any],
    into: sql.Composable,
    columns: sql.Composable,
) -> tuple[list[Tally], int]:
    """Copy what stays of a partition whose ordinary rows go, judging each row that an exception names once.

    A row stays whose fate is to stay, or whose object is not gone. Survivors are fetched by their place.

    Args:
        into: an empty table of the same columns. Nobody may write to the partition meanwhile.
        columns: those that are copied.

    Returns:
        Counts by fate, without clocks, rows whose object is not gone told apart as `WITH_OBJECT`; and how many rows
        were copied.
    """
    whole = source.relation
    # By itself: PostgreSQL counts in parallel only where the statement changes nothing.
    whole_counts = sql.SQL("SELECT (SELECT count(*) FROM {0}), (SELECT count(*) FROM {0} m WHERE {1} IS NOT NULL)")
    records, objects = conn.execute(whole_counts.format(whole, _objects(source, "m"))).fetchone() or (0, 0)
    query = sql.SQL(
        "WITH named AS MATERIALIZED ({named}), copied AS (INSERT INTO {into} ({columns}) OVERRIDING SYSTEM VALUE"
        " SELECT {columns} FROM ONLY {whole} m WHERE m.ctid = ANY (ARRAY(SELECT n.ctid FROM named n WHERE NOT {due}"
        " UNION ALL SELECT o.ctid FROM {whole} o WHERE {key} IS NOT NULL)) RETURNING 1)"
        " SELECT NULL, count(*) FROM copied UNION ALL SELECT n.fate, count(*) FROM named n WHERE {named_key} IS NULL"
        " GROUP BY 1"
    ).format(
        named=named_rows(source),
        into=into,
        columns=columns,
        whole=whole,
        due=is_due(sql.SQL("n.fate")),
        key=_objects(source, "o"),
        named_key=_objects(source, "n"),
    )
    (_, copied), *found = conn.execute(query, params).fetchall()
    named = [Tally(fate, count) for fate, count in found]
    rest = Tally(ordinary, records - objects - sum(tally.records for tally in named))
    counted = (*named, rest, Tally(WITH_OBJECT, objects, objects))
    return _summed(tally for tally in counted if tally.records), copied


def touched(conn: Connection, source: Source, params: dict[str, Any], only: sql.Composable) -> set[str]:
    """Names of the partitions below a table in which exceptions make younger rows due.

    Args:
        only: narrows the due rows, whose fate is ``g.fate``.
        params: besides `fate_parameters`, ``bound``: from which clock on; ``look``: how far consents are followed.
    """
    younger = source.younger()
    if not younger:
        return set()
    rows = conn.execute(
        sql.SQL(
            "SELECT DISTINCT c.relname FROM (SELECT m.tableoid AS leaf, {fate} AS fate FROM ({rows}) m OFFSET 0) g"
            " JOIN pg_class c ON c.oid = g.leaf WHERE {due} AND {only}"
        ).format(fate=source.fate, rows=sql.SQL(" UNION ").join(younger), due=is_due(sql.SQL("g.fate")), only=only),
        params,
    ).fetchall()
    return {name for (name,) in rows}


def record_tallies(
    conn: Connection, source: Source, ordinary: str, params: dict[str, Any], which: sql.Composable
) -> list[Tally]:
    """Counts of an ordinary table by fate: its rows past ``bound`` one by one, younger ones from the exceptions.

    Args:
        which: narrows the rows that are judged; the others past ``bound`` are counted nowhere.
        ordinary: the fate of a younger row that no exception names; a dataset that is held whole has none.
        params: besides `fate_parameters`, ``bound``: from which clock on no row is due by its own rule.
    """
    query = sql.SQL(
        "WITH past AS MATERIALIZED (SELECT {fate} AS fate, count(*) AS n, min({clock}) AS oldest FROM {relation} m"
        " WHERE {old} AND {which} GROUP BY 1), young AS MATERIALIZED (SELECT n.fate, count(*) AS n,"
        " min({named_clock}) AS oldest FROM ({named}) n WHERE {named_clock} >= %(bound)s GROUP BY 1)"
        " SELECT * FROM past UNION ALL SELECT * FROM young"
        " UNION ALL SELECT {ordinary}, (SELECT count(*) FROM {relation} m{all_young})"
        " - {less}coalesce((SELECT sum(n) FROM young), 0)::bigint, NULL"
    ).format(
        fate=source.fate,
        clock=source.columns.clock,
        old=source.columns.at.before(BOUND),
        named_clock=source.columns_of("n").clock,
        relation=source.relation,
        named=named_rows(source, which, every=False),
        ordinary=sql.Literal(ordinary),
        which=which,
        # Where every row counts, the whole table minus its past is counted without reading the clocks of the rest.
        all_young=sql.SQL("")
        if which == TRUE
        else sql.SQL(" WHERE {} AND {}").format(source.columns.at.since(BOUND), of_share(source.dataset)),
        less=sql.SQL("coalesce((SELECT sum(n) FROM past), 0)::bigint - ") if which == TRUE else sql.SQL(""),
    )
    found = conn.execute(query, params).fetchall()
    return _summed(Tally(fate, records, 0, oldest) for fate, records, oldest in found if records)
