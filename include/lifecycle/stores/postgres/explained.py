"""What an explanation needs of PostgreSQL: the facts about one row, and the rows of one place by fate. Reads only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg import sql

from lifecycle.catalog.facts import FactTable
from lifecycle.catalog.models import Accounts, Catalog, Records, subject_ids_of
from lifecycle.catalog.tiers import UNKNOWN
from lifecycle.policy.decide import Fact
from lifecycle.policy.models import Category, Policy, Tier, Trigger
from lifecycle.stores.postgres.connect import Connection, one
from lifecycle.stores.postgres.deadlines import (
    holding,
    message_deadline,
    naming,
    quarantine_deadline,
    record_deadline,
)
from lifecycle.stores.postgres.facts import agreements_of
from lifecycle.stores.postgres.fates import (
    ERASURES,
    HOLDS,
    Columns,
    fate_parameters,
    flagged,
    message_fate,
    quarantine_fate,
    quarantined_subject,
    record_fate,
    table,
    tier_of,
)
from lifecycle.stores.postgres.ids import exactly, folded, other, own
from lifecycle.stores.postgres.present import of_share, present
from lifecycle.stores.postgres.told import read_from

QUARANTINE = table("lifecycle.quarantine")


@dataclass(frozen=True)
class Group:
    """Records of one place that share a fate: how many, and when the first and the last of their deadlines strike."""

    fate: str
    records: int
    first: datetime | None
    last: datetime | None
    endless: int

    @property
    def disposition(self) -> str:
        return self.fate.split(":", 1)[0]

    @property
    def rule(self) -> str:
        return self.fate.split(":", 1)[1]


@dataclass(frozen=True)
class Row:
    """One row of an ordinary table, with the facts that its fate depends on."""

    clock: datetime
    tier: str
    facts: tuple[Fact, ...]
    basis: str | None = None
    flagged: bool = False
    personal: bool = True


def groups(
    conn: Connection,
    source: sql.Composable,
    where: sql.Composable,
    fate: sql.Composable,
    deadline: sql.Composable,
    params: Mapping[str, Any],
) -> list[Group]:
    """The rows of a source (alias ``m``) that a condition finds, by fate."""
    rows = conn.execute(
        sql.SQL(
            "SELECT g.fate, count(*), min(g.deadline), max(g.deadline), count(*) FILTER (WHERE g.deadline IS NULL)"
            " FROM (SELECT {fate} AS fate, {deadline} AS deadline FROM {source} m WHERE {where} OFFSET 0) g"
            " GROUP BY 1 ORDER BY 1"
        ).format(fate=fate, deadline=deadline, source=source, where=where),
        dict(params),
    ).fetchall()
    return [Group(*row) for row in rows]


def message_groups(
    conn: Connection,
    policy: Policy,
    catalog: Catalog,
    tier: Tier | None,
    as_of: datetime,
    *,
    source: sql.Composable | None = None,
    account: UUID | str | None = None,
) -> list[Group]:
    """Messages of a tier, of one leaf table or of one account."""
    dataset = catalog.messages
    of_tier = sql.SQL("m.{}").format(sql.Identifier(dataset.tier))
    which = sql.SQL("{} = {}").format(of_tier, sql.Literal(tier.value)) if tier is not None else (
        sql.SQL("{} <> ALL ({})").format(of_tier, sql.Literal([each.value for each in Tier]))
    )  # fmt: skip
    if account is not None:
        which = sql.SQL("{} AND m.{} = %(account)s").format(which, sql.Identifier(dataset.subject))
    return groups(
        conn,
        source if source is not None else table(dataset.table),
        which,
        message_fate(policy, catalog, tier),
        message_deadline(policy, catalog, tier),
        fate_parameters(policy, as_of) | {"account": account},
    )


def quarantine_groups(
    conn: Connection,
    policy: Policy,
    catalog: Catalog,
    tier: Tier,
    as_of: datetime,
    *,
    day: datetime | None = None,
    account: UUID | str | None = None,
) -> list[Group]:
    """Quarantined messages of a tier, of one receipt day or of one account."""
    which: sql.Composable = sql.SQL("m.tier = {}").format(sql.Literal(tier.value))
    if day is not None:
        which = sql.SQL("{} AND m.received_at >= %(day)s AND m.received_at < %(next)s").format(which)
    if account is not None:
        subject = sql.Identifier("m", quarantined_subject(catalog.messages))
        which = sql.SQL("{} AND {} = %(account)s").format(which, subject)
    until = day + timedelta(days=1) if day is not None else None
    return groups(
        conn,
        QUARANTINE,
        which,
        quarantine_fate(policy, catalog, tier),
        quarantine_deadline(policy, catalog, tier),
        fate_parameters(policy, as_of) | {"day": day, "next": until, "account": account},
    )


def record_groups(
    conn: Connection,
    policy: Policy,
    catalog: Catalog,
    dataset: Records | Accounts,
    as_of: datetime,
    *,
    source: sql.Composable | None = None,
) -> list[Group]:
    """Every row of an ordinary table, of one of its partitions, or of one tier's share of it."""
    return groups(
        conn,
        source if source is not None else table(dataset.table),
        of_share(dataset),
        record_fate(policy, catalog, dataset),
        record_deadline(policy, catalog, dataset),
        fate_parameters(policy, as_of),
    )


def row_of(
    conn: Connection, catalog: Catalog, dataset: Records | Accounts, key: Sequence[str], as_of: datetime
) -> Row | None:
    """One row by its key (one text per column), with every hold and request that covers it, ended ones included."""
    columns = Columns.of(dataset)
    share = dataset.share_of if isinstance(dataset, Records) else None
    ruled = tier_of(dataset)
    tier: sql.Composable = sql.Literal(ruled.value if ruled is not None else UNKNOWN)
    if share is None and dataset.tier is not None and ruled is Tier.CONSUMER:
        tier = sql.Identifier("m", dataset.tier)
    basis: sql.Composable = sql.SQL("NULL")
    flag: sql.Composable = sql.SQL("false")
    personal = present(dataset)
    if isinstance(dataset, Records) and dataset.basis is not None and columns.record is not None:
        basis, flag = sql.Identifier("m", dataset.basis), flagged(columns.record, catalog, columns.ids)
    params: dict[str, Any] = {"as_of": as_of, **_key_params(key)}
    which = sql.SQL("{} AND {}").format(_keyed(dataset), of_share(dataset))
    found = conn.execute(
        sql.SQL("SELECT {}, {}, {}, {}, {} FROM {} m WHERE {}").format(
            columns.clock, tier, basis, flag, personal, table(dataset.table), which
        ),
        params,
    ).fetchone()
    if found is None:
        return None
    facts: list[Fact] = []
    for trigger, source, covers, ended in (
        (Trigger.HOLD, HOLDS, holding(columns, catalog), ("placed_at", "released_at")),
        (Trigger.ERASURE, ERASURES, naming(columns), ("requested_at", "completed_at")),
    ):
        rows = conn.execute(
            sql.SQL("SELECT x.{}, x.{} FROM {} x, {} m WHERE {} AND {}").format(
                *map(sql.Identifier, ended), source, table(dataset.table), which, covers
            ),
            params,
        ).fetchall()
        facts += [Fact(trigger, began, end) for began, end in rows]
    if dataset.category is Category.PROMPTS_AND_OUTPUTS and isinstance(dataset, Records):
        facts += _of_content(conn, catalog, dataset, which, params)
    return Row(found[0], found[1], tuple(facts), found[2], found[3], found[4])


def _keyed(dataset: Records | Accounts) -> sql.Composed:
    return sql.SQL(" AND ").join(
        sql.SQL("m.{} = {}").format(sql.Identifier(name), sql.Placeholder(f"key_{n}"))
        for n, name in enumerate(dataset.key_columns)
    )


def _key_params(key: Sequence[str]) -> dict[str, Any]:
    return {f"key_{n}": part for n, part in enumerate(key)}


def share_of_row(conn: Connection, shares: Sequence[Records], key: Sequence[str]) -> Records | None:
    """Of the shares of a table of several tiers, the one that a row is in; None without such a row."""
    numbered = sql.SQL(" ").join(
        sql.SQL("WHEN {} THEN {}").format(of_share(each), sql.Literal(number)) for number, each in enumerate(shares)
    )
    query = sql.SQL("SELECT CASE {} END FROM {} m WHERE {}").format(numbered, table(shares[0].table), _keyed(shares[0]))
    found = conn.execute(query, _key_params(key)).fetchone()
    return None if found is None else shares[found[0]]


def _of_content(
    conn: Connection, catalog: Catalog, dataset: Records, which: sql.Composable, params: Mapping[str, Any]
) -> list[Fact]:
    """The exceptions that concern content alone: cases and agreements of its account, consents of its conversation."""
    query = sql.SQL("SELECT x.{}, x.{} FROM {} x, {} m WHERE {} AND {} = {}")
    found: list[Fact] = []
    named: list[tuple[Trigger, FactTable, str]] = []
    if (cases := catalog.exceptions.cases) is not None:
        named.append((Trigger.CASE, cases, dataset.subject))
    if (given := catalog.exceptions.consents) is not None and dataset.group is not None:
        named.append((Trigger.CONSENT, given, dataset.group))
    for trigger, source, column in named:
        ids = subject_ids_of(dataset) if trigger is Trigger.CASE else dataset.ids
        composed = query.format(
            *map(sql.Identifier, source.times),
            read_from(source, ids),
            table(dataset.table),
            which,
            other(sql.Identifier("x", source.named), ids),
            own(sql.Identifier("m", column), ids),
        )
        found += [Fact(trigger, *row) for row in conn.execute(composed, params).fetchall()]
    if catalog.exceptions.agreements is not None:
        whose = sql.SQL("SELECT m.{}::text FROM {} m WHERE {}").format(
            sql.Identifier(dataset.subject), table(dataset.table), which
        )
        found += [
            fact for _, fact in agreements_of(conn, catalog, {}, one(conn, whose, params), subject_ids_of(dataset))
        ]
    return found


def count_of(conn: Connection, name: str, column: str, value: str) -> int:
    """How many rows of a table carry a value."""
    query = sql.SQL("SELECT count(*) FROM {} WHERE {} = %(value)s").format(table(name), sql.Identifier(column))
    return int(one(conn, query, {"value": value}))


def exists(conn: Connection, schema: str, name: str) -> bool:
    return one(conn, "SELECT to_regclass(format('%%I.%%I', %s::text, %s::text))", (schema, name)) is not None


def day_start(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def about_account(conn: Connection, catalog: Catalog, account: UUID | str) -> dict[str, list[dict[str, Any]]]:
    """Holds, requests, cases and agreements that name an account: kind by kind, oldest first."""
    cases, terms, ids = catalog.cases, catalog.agreements, catalog.accounts.ids
    params = {"account": account}
    queries: dict[str, tuple[tuple[str, ...], sql.Composed]] = {
        "holds": (
            ("placed_at", "released_at"),
            sql.SQL(
                "SELECT x.placed_at, x.released_at FROM {} x WHERE x.scope = 'account'"
                " AND lower(btrim(x.target)) = {} ORDER BY 1"
            ).format(HOLDS, folded(sql.SQL("%(account)s::text"), ids)),
        ),
        "requests": (
            ("requested_at", "completed_at", "outcome"),
            sql.SQL(
                "SELECT x.requested_at, x.completed_at, x.outcome FROM {} x WHERE x.scope = 'account'"
                " AND %(account)s::text = ANY ({}) ORDER BY 1"
            ).format(ERASURES, exactly("x", ids)),
        ),
        "cases": (
            ("opened_at", "closed_at"),
            sql.SQL("SELECT x.{}, x.{} FROM {} x WHERE {} = %(account)s ORDER BY 1").format(
                *map(sql.Identifier, cases.times),
                read_from(cases, ids),
                other(sql.Identifier("x", cases.subject), ids),
            ),
        ),
        "agreements": (
            ("category", "retain", "effective_from", "effective_to"),
            sql.SQL("SELECT x.{}, x.{}::text, x.{}, x.{} FROM {} x WHERE {} = %(account)s ORDER BY 3").format(
                *map(sql.Identifier, (terms.category, terms.retain, terms.effective_from, terms.effective_to)),
                read_from(terms, ids),
                other(sql.Identifier("x", terms.subject), ids),
            ),
        ),
    }
    return {
        kind: [dict(zip(names, row, strict=True)) for row in conn.execute(query, params).fetchall()]
        for kind, (names, query) in queries.items()
    }
