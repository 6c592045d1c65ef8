"""The objects behind the cut-off that must stay, version by version, in bounded memory. Reads only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from psycopg import sql

from lifecycle.dispositions.context import RunContext
from lifecycle.policy.models import Tier
from lifecycle.stores.postgres.clocks import ClockSql
from lifecycle.stores.postgres.fates import table

if TYPE_CHECKING:
    from lifecycle.stores.s3.entries import ObjectVersion

_KEYS = 1000


def surviving_keys(context: RunContext, tier: Tier) -> Iterator[str]:
    """Keys of the objects of messages that are past their tier's cut-off, and that an exception keeps."""
    dataset = context.messages
    query = sql.SQL(
        "SELECT m.{key} FROM {t} m WHERE m.{tier} = {name} AND {before} AND m.{key} IS NOT NULL"
        " AND split_part({fate}, ':', 1) = 'keep'"
    ).format(
        key=sql.Identifier(dataset.objects.column),
        t=table(dataset.table),
        tier=sql.Identifier(dataset.tier),
        name=sql.Literal(tier.value),
        before=ClockSql.of(dataset.clock, "m").before(sql.Literal(context.cutoff(tier))),
        fate=context.fate(tier),
    )
    with context.conn.transaction(), context.conn.cursor(name="survivors") as cursor:
        cursor.execute(query, context.params)
        for (key,) in cursor:
            yield key


def surviving_versions(context: RunContext, tier: Tier, left_out: Counter[str]) -> Iterator[ObjectVersion]:
    """The newest version of each; an object that is absent, or hidden by a delete marker, is counted."""
    from lifecycle.stores.s3.versions import versions_of

    for some in _batches(surviving_keys(context, tier)):
        found = dict(versions_of(context.s3, context.messages.objects.bucket, some, expected=len(some)))
        for key in some:
            versions = found.get(key)
            if versions is None:
                left_out["absent"] += 1
            elif versions[0].is_marker:
                left_out["hidden"] += 1
            else:
                yield versions[0]


def _batches(keys: Iterator[str]) -> Iterator[list[str]]:
    some: list[str] = []
    for key in keys:
        some.append(key)
        if len(some) == _KEYS:
            yield some
            some = []
    if some:
        yield some
