"""The facts that `decide` needs: of one message (explain), and of all log lines at once (exceptions are few)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import sql

from lifecycle.catalog.facts import FactTable
from lifecycle.catalog.models import Catalog, Ids, Logs
from lifecycle.planning.log_decision import LogFacts
from lifecycle.policy.decide import Fact
from lifecycle.policy.models import Category, Trigger
from lifecycle.policy.periods import Period
from lifecycle.stores.postgres.connect import Connection
from lifecycle.stores.postgres.fates import table
from lifecycle.stores.postgres.ids import exactly, folded, other
from lifecycle.stores.postgres.messages import Located
from lifecycle.stores.postgres.told import read_from


def _period(months: int, days: int, seconds: float) -> Period:
    return Period(months, days, int(seconds))


def _gather(into: dict[str, tuple[Fact, ...]], key: str, fact: Fact) -> None:
    into[key] = (*into.get(key, ()), fact)


def load_log_facts(
    conn: Connection,
    catalog: Catalog,
    params: Mapping[str, Any],
    conversations: dict[str, list[str]],
    of: Logs | None = None,
) -> LogFacts:
    """Read the exceptions that are in force: holds, cases, erasure requests, agreements.

    Args:
        of: whose lines are to be judged; without it holds on any of the datasets count, and terms for prompts.
        conversations: the messages of conversations looked up before, as text; those of newly held ones are added.
            Which conversation a message belongs to never changes, and looking it up costs every partition a look.
    """
    subjects: dict[str, tuple[Fact, ...]] = {}
    # Accounts that are text are who they are letter by letter; only a hold counts in any case of letters.
    ids, exactly = catalog.messages.subject_ids, dict[str, tuple[Fact, ...]]()
    named = exactly if ids == "text" else subjects
    records: dict[str, tuple[Fact, ...]] = {}
    everywhere: list[Fact] = []
    held = catalog.logs if of is None else (of,)
    names = {name for dataset in held for name in (*dataset.names, dataset.bucket)}
    category = Category.PROMPTS_AND_OUTPUTS if of is None else of.category
    for scope, target, began, ended in conn.execute(
        "SELECT scope, lower(btrim(target)), placed_at, released_at FROM lifecycle.legal_holds"
        " WHERE released_at IS NULL OR released_at > %(as_of)s",
        params,
    ):
        fact = Fact(Trigger.HOLD, began, ended)
        if scope == "account":
            _gather(subjects, target, fact)
        elif scope == "message":
            _gather(records, target, fact)
        elif scope == "dataset" and target in names:
            everywhere.append(fact)
    for record, fact in _held_conversations(conn, catalog, params, conversations):
        _gather(records, record, fact)
    agreed = agreements_of(conn, catalog, params, ids=ids, category=category)
    for subject, fact in (*_cases(conn, catalog, params), *agreed):
        if subject is not None:
            _gather(named, subject, fact)
    for scope, target, began, ended in conn.execute(
        "SELECT scope, btrim(target), requested_at, completed_at FROM lifecycle.erasure_requests"
        " WHERE scope IN ('account', 'message')"
    ):
        fact = Fact(Trigger.ERASURE, began, ended)
        if scope == "account" and ids == "text":
            # As `ids.exactly` has it for rows.
            for name in {target, target.lower()} if _is_uuid(target.lower()) else {target}:
                _gather(exactly, name, fact)
        else:
            _gather(subjects if scope == "account" else records, target.lower(), fact)
    return LogFacts(subjects, records, tuple(everywhere), exactly)


def _held_conversations(
    conn: Connection, catalog: Catalog, params: Mapping[str, Any], known: dict[str, list[str]]
) -> list[tuple[str, Fact]]:
    """The messages, as text, of every conversation under hold, wherever they are now."""
    held = conn.execute(
        "SELECT lower(btrim(target)), placed_at, released_at FROM lifecycle.legal_holds"
        " WHERE scope = 'conversation' AND (released_at IS NULL OR released_at > %(as_of)s)",
        params,
    ).fetchall()
    unknown = [target for target, _, _ in held if target not in known and _is_uuid(target)]
    if unknown:
        _look_up(conn, catalog, unknown, known)
    return [(record, Fact(Trigger.HOLD, *times)) for target, *times in held for record in known.get(target, ())]


def _look_up(conn: Connection, catalog: Catalog, conversations: list[str], into: dict[str, list[str]]) -> None:
    messages = catalog.messages
    rows = conn.execute(
        sql.SQL(
            "SELECT m.{group}::text, m.{record}::text FROM {t} m WHERE m.{group} = ANY(%(groups)s::text[]::uuid[])"
            " UNION ALL SELECT q.conversation_id::text, q.message_id::text FROM lifecycle.quarantine q"
            " WHERE q.conversation_id = ANY(%(groups)s::text[]::uuid[])"
        ).format(record=sql.Identifier(messages.record), t=table(messages.table), group=sql.Identifier(messages.group)),
        {"groups": conversations},
    ).fetchall()
    for conversation in conversations:
        into.setdefault(conversation, [])
    for conversation, record in rows:
        into[conversation].append(record)


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def _cases(conn: Connection, catalog: Catalog, params: Mapping[str, Any]) -> list[tuple[str, Fact]]:
    cases = catalog.cases
    rows = conn.execute(
        sql.SQL("SELECT {s}::text, {o}, {c} FROM {t} x WHERE {c} IS NULL OR {c} > %(as_of)s").format(
            s=sql.Identifier(cases.subject),
            o=sql.Identifier(cases.opened),
            c=sql.Identifier(cases.closed),
            t=read_from(cases, catalog.messages.subject_ids),
        ),
        params,
    ).fetchall()
    return [(subject, Fact(Trigger.CASE, began, ended)) for subject, began, ended in rows]


def agreements_of(
    conn: Connection,
    catalog: Catalog,
    params: Mapping[str, Any],
    subject: UUID | str | int | None = None,
    ids: Ids = "uuid",
    *,
    category: Category = Category.PROMPTS_AND_OUTPUTS,
) -> list[tuple[str, Fact]]:
    terms = catalog.agreements
    rows = conn.execute(
        sql.SQL(
            "SELECT {s}::text, {f}, {u}, (extract(year FROM {r}) * 12 + extract(month FROM {r}))::int,"
            " extract(day FROM {r})::int, extract(epoch FROM {r} - date_trunc('day', {r}))::float8 FROM {t} x"
            " WHERE {c} = %(category)s AND {given} IS NOT NULL"
            " AND (%(subject)s::text IS NULL OR {s}::text = %(subject)s)"
        ).format(
            s=sql.Identifier(terms.subject),
            f=sql.Identifier(terms.effective_from),
            u=sql.Identifier(terms.effective_to),
            given=sql.Identifier(terms.retain),
            # An interval may be without end, which has no months.
            r=sql.SQL("least(greatest({}, interval '-100000 years'), interval '100000 years')").format(
                sql.Identifier(terms.retain)
            ),
            c=sql.Identifier(terms.category),
            t=read_from(terms, ids),
        ),
        dict(params) | {"category": category.value, "subject": None if subject is None else str(subject)},
    ).fetchall()
    return [
        (who, Fact(Trigger.AGREEMENT, began, ended, _period(months, days, seconds)))
        for who, began, ended, months, days, seconds in rows
    ]


def message_facts(conn: Connection, catalog: Catalog, record: UUID, found: Located) -> list[Fact]:
    """Every exception that names a message, its conversation or its account, ended ones included."""
    dataset, facts = catalog.messages, catalog
    names = [dataset.id, dataset.table]
    ids = dataset.subject_ids
    params: dict[str, Any] = {
        "record": record,
        "account": found.account if ids == "uuid" else str(found.account),
        "conversation": found.conversation,
        "names": names,
        "targets": [str(record), str(found.account), str(found.conversation)],
    }
    gathered: list[Fact] = []
    scoped = sql.SQL(
        " WHERE (scope = 'account' AND {})"
        " OR (scope = 'conversation' AND lower(btrim(target)) = %(conversation)s::text)"
        " OR (scope = 'message' AND lower(btrim(target)) = %(record)s::text)"
    )
    held = sql.SQL("lower(btrim(target)) = {}").format(folded(sql.SQL("%(account)s::text"), ids))
    asked = sql.SQL("%(account)s::text = ANY ({})").format(exactly("x", ids))
    holds = sql.SQL("SELECT placed_at, released_at FROM lifecycle.legal_holds {}").format(scoped.format(held))
    requests = sql.SQL("SELECT requested_at, completed_at FROM lifecycle.erasure_requests x {}").format(
        scoped.format(asked)
    )
    of_dataset = sql.SQL(" OR (scope = 'dataset' AND btrim(target) = ANY(%(names)s))")
    gathered += _facts(conn, Trigger.HOLD, holds + of_dataset, params)
    gathered += _facts(conn, Trigger.ERASURE, requests, params)
    named: list[tuple[Trigger, sql.Composable]] = [
        (
            Trigger.FLAG,
            _named(facts.flags, "record"),
        ),
        (
            Trigger.CONSENT,
            _named(facts.consents, "conversation"),
        ),
        (
            Trigger.CASE,
            _named(facts.cases, "account", ids),
        ),
    ]
    for trigger, query in named:
        gathered += _facts(conn, trigger, query, params)
    gathered += [fact for _, fact in agreements_of(conn, catalog, {}, found.account, ids)]
    return gathered


def _named(facts: FactTable, param: str, ids: Ids = "uuid") -> sql.Composable:
    return sql.SQL("SELECT {}, {} FROM {} x WHERE {} = {}").format(
        *map(sql.Identifier, facts.times),
        read_from(facts, ids),
        other(sql.Identifier("x", facts.named), ids),
        sql.Placeholder(param),
    )


def _facts(conn: Connection, trigger: Trigger, query: Any, params: Mapping[str, Any]) -> list[Fact]:
    rows: list[tuple[datetime, datetime | None]] = conn.execute(query, params).fetchall()
    return [Fact(trigger, began, ended) for began, ended in rows]
