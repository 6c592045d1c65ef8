"""Keeps what must stay out of S3's reach: tickets are handed out to ordinary objects only, and taken back in time.

Taking a ticket back destroys nothing, so it needs no gate and no run: cron can do it while Airflow is down.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

from psycopg import sql

from lifecycle.backstop.compile import is_ordinary, stem, ticket_of
from lifecycle.backstop.models import OWN
from lifecycle.backstop.standing import approved_for, read_rules
from lifecycle.catalog.models import Catalog
from lifecycle.dispositions.context import RunContext
from lifecycle.errors import LifecycleError, ShieldError
from lifecycle.policy.models import Policy, Tier, Trigger
from lifecycle.stores.postgres.connect import Connection
from lifecycle.stores.postgres.exceptional import is_held_whole, leaf_source, named_rows
from lifecycle.stores.postgres.fates import Columns, fate_parameters, table
from lifecycle.stores.postgres.ids import is_named
from lifecycle.stores.postgres.tree import tier_root

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = logging.getLogger(__name__)
PAGE = 500
WORKERS = 8
# An agreement may be entered before it begins: what will stay by then must be out of reach before the next shield.
AHEAD = timedelta(days=2)


@dataclass(frozen=True)
class Shielded:
    """What one pass did: objects that were looked at, most of them twice, and how many versions lost a ticket."""

    objects: int = 0
    taken: int = 0

    def __add__(self, other: Shielded) -> Shielded:
        return Shielded(self.objects + other.objects, self.taken + other.taken)


def hand_out(context: RunContext, tier: Tier, moved: Mapping[str, str]) -> int:
    """Give a ticket to those of some moved keys whose fate was their tier's default. Returns how many.

    One that does not get it is never expired by S3, and left to the runs; so a failure here fails nothing. What an
    exception names since then the next shield takes back, long before a rule counts to its day.
    """
    ticket = ticket_of(context.policy, context.messages, tier)
    if ticket is None or context.guard is not None:
        return 0
    ordinary = [key for key, fate in moved.items() if is_ordinary(fate, ticket)]

    def give(key: str) -> bool:
        from lifecycle.stores.s3.tickets import give_ticket

        try:
            return give_ticket(context.s3, context.messages.objects.bucket, key, ticket.key, ticket.value)
        except LifecycleError as error:
            log.warning("an object was not given its ticket (%s); S3 will not expire it", type(error).__name__)
            return False

    with ThreadPoolExecutor(WORKERS) as pool:
        return sum(pool.map(give, ordinary))


def known_to(context: RunContext) -> list[tuple[Policy, Catalog]]:
    """The loaded configuration and, while it is not approved, the one in force."""
    known = [(context.policy, context.catalog)]
    if context.guard is not None and context.guard.policy is not None and context.guard.catalog is not None:
        known.append((context.guard.policy, context.guard.catalog))
    return known


def shield_run(context: RunContext) -> int:
    """The shield of a run's tiers, under both policies while one is not approved. Returns tickets taken."""
    found = Shielded()
    for policy, catalog in known_to(context):
        found += shield(context.conn, context.s3, policy, catalog, context.tiers, context.run.as_of)
    return found.taken


def shield(
    conn: Connection,
    s3: S3Client,
    policy: Policy,
    catalog: Catalog,
    tiers: tuple[Tier, ...],
    as_of: datetime,
) -> Shielded:
    """Take the tickets of every object whose record an exception keeps, moves or transforms, or may.

    Raises:
        ShieldError: some tickets could not be taken; S3 may expire what must stay. Counts only.
    """
    tags = _tags(conn, s3, catalog)
    found, failed = Shielded(), 0
    for tier in tiers if tags else ():
        pages = (keys_to_shield(conn, policy, catalog, tier, at) for at in (as_of, as_of + AHEAD))
        for keys in chain.from_iterable(pages):
            done, missed = _take_all(s3, catalog.messages.objects.bucket, tags, keys)
            found, failed = found + done, failed + missed
    if failed:
        raise ShieldError(failed, found.objects)
    return found


def shield_hold(conn: Connection, s3: S3Client, catalog: Catalog, scope: str, target: str) -> int:
    """Take the tickets of what a hold on an account, a conversation or a message names, at once. Returns how many.

    Raises:
        ShieldError: some could not be taken.
    """
    tags = _tags(conn, s3, catalog)
    if not tags:
        return 0
    messages = catalog.messages
    scoped = Columns.of(messages).scoped
    if scope not in scoped:
        return 0
    column, ids = scoped[scope]
    query = sql.SQL("SELECT m.{key} FROM {t} m WHERE {named} AND m.{key} IS NOT NULL").format(
        key=sql.Identifier(messages.objects.column), t=table(messages.table), named=is_named(column, ids)
    )
    found, failed = Shielded(), 0
    for keys in _fetched(conn, query, {"target": target}):
        done, missed = _take_all(s3, messages.objects.bucket, tags, keys)
        found, failed = found + done, failed + missed
    if failed:
        raise ShieldError(failed, found.objects)
    return found.taken


def _tags(conn: Connection, s3: S3Client, catalog: Catalog) -> frozenset[str]:
    """The tags that our rules go by: those of the dataset file, and those that stand in the bucket all the same."""
    if not catalog.has_messages:
        return frozenset()
    objects = catalog.messages.objects
    tags = {objects.backstop.tag} if objects.backstop is not None else set()
    approved = approved_for(conn, objects.bucket)
    if approved is not None and approved.rules_sha256 is not None:
        for rule in read_rules(s3, objects.bucket) or ():
            if str(rule.get("ID", "")).startswith(OWN):
                tags |= {tag["Key"] for tag in rule.get("Filter", {}).get("And", {}).get("Tags", [])}
    return frozenset(tags)


def _take_all(s3: S3Client, bucket: str, tags: frozenset[str], keys: Sequence[str]) -> tuple[Shielded, int]:
    """What was done to some keys, and of how many it is not known."""
    with ThreadPoolExecutor(WORKERS) as pool:
        taken = list(pool.map(partial(_take, s3, bucket, tags), keys))
    return Shielded(len(keys), sum(each or 0 for each in taken)), taken.count(None)


def _take(s3: S3Client, bucket: str, tags: frozenset[str], key: str) -> int | None:
    from lifecycle.stores.s3.tickets import take_tickets

    try:
        return take_tickets(s3, bucket, key, tags)
    except LifecycleError as error:
        log.error("a ticket could not be taken: %s", error)
        return None


def keys_to_shield(
    conn: Connection, policy: Policy, catalog: Catalog, tier: Tier, as_of: datetime
) -> Iterator[list[str]]:
    """Keys of objects in the tier's own place that S3 must not expire, a page at a time."""
    root = tier_root(conn, catalog.messages, tier)
    prefix = stem(catalog.messages.objects.partitioned, tier)
    if root is None or prefix is None:
        return
    query, params = _exceptional(conn, policy, catalog, tier, root, as_of)
    yield from _fetched(conn, query, params | {"prefix": prefix})


def _fetched(conn: Connection, query: sql.Composed, params: dict[str, Any]) -> Iterator[list[str]]:
    """Pages of a query's only column. The cursor outlives its transaction: none is open while S3 is asked."""
    with conn.cursor(name="lifecycle_shield", withhold=True) as cursor:
        cursor.execute(query, params)
        while rows := cursor.fetchmany(PAGE):
            yield [key for (key,) in rows]


def _exceptional(
    conn: Connection, policy: Policy, catalog: Catalog, tier: Tier, root: sql.Identifier, as_of: datetime
) -> tuple[sql.Composed, dict[str, Any]]:
    """Objects whose record has another fate than its default; of a dataset that is held whole, every object."""
    source, params = leaf_source(policy, catalog, tier, root), fate_parameters(policy, as_of)
    key = sql.Identifier("n", catalog.messages.objects.column)
    if is_held_whole(conn, source, params):
        rows: sql.Composable = sql.SQL("SELECT m.* FROM {} m").format(root)
        differs: sql.Composable = sql.SQL("true")
    else:
        default = policy.rule_for(Trigger.DEFAULT, catalog.messages.category, tier)
        rows = named_rows(source)
        differs = sql.SQL("n.fate <> {} AND split_part(n.fate, ':', 1) <> 'delete'").format(
            sql.Literal(f"keep:{default.id if default else ''}")
        )
    query = sql.SQL("SELECT {key} FROM ({rows}) n WHERE starts_with({key}, %(prefix)s) AND {differs}").format(
        key=key, rows=rows, differs=differs
    )
    return query, params
