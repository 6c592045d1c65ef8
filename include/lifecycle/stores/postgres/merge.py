"""Several partitions of one parent become one, row for row, in one transaction: whole, or as they were."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

import psycopg
from psycopg import sql

from lifecycle.catalog.models import Messages, Records
from lifecycle.errors import VerificationError
from lifecycle.policy.models import Tier
from lifecycle.stores.postgres.bounds import Bounds
from lifecycle.stores.postgres.clone import (
    Clone,
    begin_clone,
    copy_rows,
    fingerprint,
    finish_clone,
)
from lifecycle.stores.postgres.connect import Connection, one
from lifecycle.stores.postgres.locks import at_a_free_moment
from lifecycle.stores.postgres.partitions import NameTakenError
from lifecycle.stores.postgres.published import deletes_are_published, everything_is_published, published_by_name
from lifecycle.stores.postgres.references import incoming
from lifecycle.stores.postgres.refused import NotSwappableError, unless_forbidden
from lifecycle.stores.postgres.swap import (
    drop_partition,
    exchange,
    keep_still,
    refuse_dependents,
    refuse_uncarriable,
    tables_to_lock,
)
from lifecycle.stores.postgres.timed import leaves_of
from lifecycle.stores.postgres.tree import Partition

PATIENCE_SECONDS = 10.0


def drop_if_empty(conn: Connection, leaf: Partition) -> bool:
    """Drop a partition in which nothing is left, in a transaction of its own. False when something is."""
    with conn.transaction():
        if not _is_empty(conn, leaf):
            return False
        keep_still(conn, leaf)
        if not _is_empty(conn, leaf):
            return False
        drop_partition(conn, leaf)
        return True


def _is_empty(conn: Connection, leaf: Partition) -> bool:
    return not one(conn, sql.SQL("SELECT EXISTS (SELECT FROM ONLY {})").format(leaf.identifier))


def rows_in(conn: Connection, leaves: Sequence[Partition]) -> int:
    """How many rows some partitions hold together."""
    return sum(one(conn, sql.SQL("SELECT count(*) FROM ONLY {}").format(leaf.identifier)) for leaf in leaves)


def merge(
    conn: Connection,
    dataset: Messages | Records,
    tier: Tier | None,
    parts: Sequence[Partition],
    span: tuple[datetime, datetime],
    name: str,
) -> int | None:
    """Replace partitions by one that covers a span: what they hold, and what the default partition holds of it.

    It is made like the youngest of the parts, of which all others have to be alike.

    Returns:
        the number of rows in it; None when the parts are no longer what they were.

    Raises:
        NotSwappableError: something depends on a part, or the parts differ by more than their rows.
        NameTakenError: a table has the name already.
        psycopg.errors.LockNotAvailable: there was no free moment.
    """
    with conn.transaction(), _fitting(parts, name):
        keep_still(conn, *parts)
        present = set(leaves_of(conn, dataset, tier, within=span))
        if not present.issuperset(parts):
            return None
        _refuse_unlike(conn, parts)
        _refuse_unknown_name(conn, parts)
        for part in parts:
            refuse_dependents(conn, part)
        refuse_uncarriable(conn, parts[0])
        _refuse_name(conn, parts, name)
        model = parts[-1]
        with unless_forbidden(conn, f"{model.schema}.{name}"):
            clone = begin_clone(conn, model.schema, model.name)
        copied = sum(copy_rows(conn, clone, part.identifier, sql.SQL("true")) for part in parts)
        with unless_forbidden(conn, f"{model.schema}.{name}"):
            finish_clone(conn, clone)
        if copied != rows_in(conn, parts) or copied != _count(conn, clone):
            raise VerificationError(f"{model.schema}.{name}: not every row of its {len(parts)} parts was copied")
        default = next((leaf for leaf in present if leaf.default and leaf.parent == model.parent), None)
        return at_a_free_moment(
            conn,
            tables_to_lock(conn, parts),
            lambda: copied + _take_over(conn, dataset, parts, clone, span, name, default),
            patience=PATIENCE_SECONDS,
        )


@contextmanager
def _fitting(parts: Sequence[Partition], name: str) -> Iterator[None]:
    """A partition beside them may end inside the unit of the clock at which the merged one would begin."""
    try:
        yield
    except psycopg.errors.InvalidObjectDefinition:
        schema = parts[-1].schema
        raise NotSwappableError(f"{schema}.{name}", ["a partition beside it, which it would overlap"]) from None


def _refuse_unlike(conn: Connection, parts: Sequence[Partition]) -> None:
    alike = {part: fingerprint(conn, part.schema, part.name) for part in parts}
    model = alike[parts[-1]]
    unlike = [part for part in parts if alike[part] != model]
    if unlike:
        raise NotSwappableError(
            f"{parts[-1].schema}.{parts[-1].name}", [f"{unlike[0].schema}.{unlike[0].name}, which is defined otherwise"]
        )


def _refuse_unknown_name(conn: Connection, parts: Sequence[Partition]) -> None:
    """Subscribers that are told of partitions by name have none of the larger one's, and would stop at its rows."""
    names = sorted({name for part in parts for name in published_by_name(conn, part)})
    if names:
        told = (
            f"publication {', '.join(names)}, whose subscribers have no table of its new name (ALTER PUBLICATION ..."
            " SET (publish_via_partition_root = true), and no partition of its own among its tables)"
        )
        raise NotSwappableError(f"{parts[-1].schema}.{parts[-1].name}", [told])


def _refuse_name(conn: Connection, parts: Sequence[Partition], name: str) -> None:
    model = parts[-1]
    if name in {part.name for part in parts}:
        return
    wanted = sql.Identifier(model.schema, name)
    if one(conn, "SELECT to_regclass(%s) IS NOT NULL", (wanted.as_string(conn),)):
        raise NameTakenError(f"{model.schema}.{name}", f"{model.parent_schema or model.schema}.{model.parent}")


def _count(conn: Connection, clone: Clone) -> int:
    return int(one(conn, sql.SQL("SELECT count(*) FROM {}").format(clone.made)))


def _take_over(
    conn: Connection,
    dataset: Messages | Records,
    parts: Sequence[Partition],
    clone: Clone,
    span: tuple[datetime, datetime],
    name: str,
    default: Partition | None,
) -> int:
    """The locked part: rows of the span that came to the default partition, then the exchange. Returns how many."""
    bounds = Bounds(dataset.clock)
    of_span = bounds.inside(*span)
    strays = copy_rows(conn, clone, default.identifier, of_span) if default is not None else 0
    if default is not None and strays and (deletes_are_published(conn, default) or everything_is_published(conn)):
        told = (
            f"{strays} row(s) of {default.schema}.{default.name}, of whose move subscribers would be told as of"
            " deletions or new rows"
        )
        raise NotSwappableError(f"{parts[-1].schema}.{name}", [told])

    def empty_default() -> None:
        if default is None or not strays:
            return
        gone = conn.execute(sql.SQL("DELETE FROM ONLY {} m WHERE {}").format(default.identifier, of_span)).rowcount
        if gone != strays:
            raise VerificationError(f"{default.schema}.{default.name}: {strays} row(s) were copied, {gone} would go")

    bound = sql.SQL("FOR VALUES FROM ({}) TO ({})").format(*map(bounds.write, span)).as_string(conn)
    with unless_forbidden(conn, f"{parts[-1].schema}.{name}"):
        exchange(conn, parts, clone, bound, name=name, meanwhile=empty_default)
    return strays


def referred_to_by_others(conn: Connection, leaf: Partition, children: set[str]) -> bool:
    """Whether a table that is no configured child refers to a partition: then its rows are not ours to carry."""
    return any(reference.table not in children for reference in incoming(conn, leaf.schema, leaf.name))
