"""The partition tree as the catalogue has it, whatever its depth and whatever its partitions are called.

Read without a lock on any partition, from ``pg_inherits`` and the bounds: other tools (pg_partman) name and nest
partitions in ways of their own. What cannot be disposed of partition by partition is refused, never overlooked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from psycopg import sql

from lifecycle.catalog.clocks import column_of
from lifecycle.catalog.models import Messages, Records
from lifecycle.errors import PreconditionError
from lifecycle.planning.spans import span_label
from lifecycle.policy.models import Tier
from lifecycle.stores.postgres.bounds import Bounds, Ends, Mark
from lifecycle.stores.postgres.connect import Connection
from lifecycle.stores.postgres.nodes import Node, all_below, children_of, root_of

DEFAULT_BOUND = "DEFAULT"
_RANGE = re.compile(r"FOR VALUES FROM \((.*)\) TO \((.*)\)", re.DOTALL)
_LIST = re.compile(r"FOR VALUES IN \((.*)\)", re.DOTALL)
_TEXT = re.compile(r"'((?:[^']|'')*)'")
_ITEM = re.compile(r"\s*(?:'(?:[^']|'')*'|[^',]+)\s*(?:,|$)")
# A span of the clock, half-open.
Within = tuple[Mark, Mark]


class UnsupportedPartitioningError(PreconditionError):
    """A table is partitioned so that it cannot be disposed of by partitions. Names the table and the remedy."""

    def __init__(self, table: str, problem: str, remedy: str) -> None:
        self.table, self.problem, self.remedy = table, problem, remedy
        super().__init__(f"{table}: {problem}. {remedy}")


@dataclass(frozen=True)
class Partition:
    """A leaf of the messages tree. Bounds are None where there is no end, and both in a tier's default partition.

    ``lower``, ``upper``: marks (see `bounds`). ``instants``: what its rows' instants lie between, where marks are none.
    """

    schema: str
    name: str
    parent: str
    lower: Mark | None
    upper: Mark | None
    default: bool = False
    parent_schema: str | None = None
    instants: Ends | None = None

    @property
    def earliest(self) -> datetime | None:
        """No row is of an earlier instant; None where there is no end."""
        return self.lower if self.instants is None else self.instants[0]

    @property
    def latest(self) -> datetime | None:
        """No row is of this instant or a later one; None where there is no end."""
        return self.upper if self.instants is None else self.instants[1]

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)

    @property
    def parent_identifier(self) -> sql.Identifier:
        return sql.Identifier(self.parent_schema or self.schema, self.parent)

    @property
    def is_default(self) -> bool:
        return self.default

    @property
    def label(self) -> str:
        """The last part of its unit's name, different for every leaf of a tier."""
        return span_label(self.lower, self.upper, default=self.default)

    @property
    def bounded(self) -> bool:
        return self.lower is not None and self.upper is not None and not self.default


@dataclass(frozen=True)
class Branch:
    """A partitioned table in the tree, with the span that reaches it."""

    schema: str
    name: str
    lower: Mark | None
    upper: Mark | None
    children: tuple[Partition | Branch, ...]
    default: bool = False

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)

    def leaves(self) -> list[Partition]:
        found: list[Partition] = []
        for child in self.children:
            found.extend(child.leaves() if isinstance(child, Branch) else [child])
        return found

    def branches(self) -> list[Branch]:
        """This one and every partitioned table below it."""
        found = [self]
        for child in self.children:
            if isinstance(child, Branch):
                found.extend(child.branches())
        return found


def tier_tree(
    conn: Connection, dataset: Messages, tier: Tier, within: Within | None = None
) -> Branch | Partition | None:
    """The part of the tree that holds a tier; None when nothing does, and its rows are in the default partition.

    Args:
        within: only what rows of a span may lie in: partitions that overlap it, and default partitions beside them.

    Raises:
        UnsupportedPartitioningError: it is partitioned by something else, or together with other tiers.
    """
    node = _tier_node(conn, dataset, tier)
    return None if node is None else _grow(conn, dataset, node, within)


def partitions_of(conn: Connection, dataset: Messages, tier: Tier, within: Within | None = None) -> list[Partition]:
    """Every leaf of a tier, in clock order, default partitions last. Reads the catalogue, not the table.

    Args:
        within: see `tier_tree`. What one partition costs must not depend on how many there are.

    Raises:
        UnsupportedPartitioningError: see `tier_tree`.
    """
    found = tier_tree(conn, dataset, tier, within)
    if found is None:
        return []
    return sorted(found.leaves() if isinstance(found, Branch) else [found], key=_clock_order)


def time_tree(conn: Connection, dataset: Records, within: Within | None = None) -> Branch | None:
    """A table that nothing but its clock divides, at any depth; None for one that is not partitioned.

    Args:
        within: see `tier_tree`.

    Raises:
        UnsupportedPartitioningError: something else divides it, at some level.
    """
    schema, name = dataset.table.split(".", 1)
    root = root_of(conn, schema, name)
    if root is None or root.strategy is None:
        return None
    found = _grow(conn, dataset, root, within)
    return found if isinstance(found, Branch) else None


def tier_root(conn: Connection, dataset: Messages, tier: Tier) -> sql.Identifier | None:
    """The table through which a tier's rows are read; None when no partition is for it."""
    node = _tier_node(conn, dataset, tier)
    return None if node is None else sql.Identifier(node.schema, node.name)


def unclassified_partitions(conn: Connection, dataset: Messages) -> list[Partition]:
    """Where rows of a tier that nobody declared end up: the default partition beside the tiers', and their own."""
    found = []
    for node in _tier_nodes(conn, dataset):
        if node.bound is None:
            continue
        if node.bound == DEFAULT_BOUND or not set(_tiers_of(dataset, node)) & {tier.value for tier in Tier}:
            below = [node] if node.strategy is None else all_below(conn, node)
            leaves = [each for each in below if each.strategy is None and each.bound is not None]
            parents = {each.oid: each for each in (*below, node)}
            for leaf in leaves:
                schema, parent = (
                    (parents[leaf.parent].schema, parents[leaf.parent].name)
                    if leaf.parent in parents
                    else dataset.table.split(".", 1)
                )
                only = node.bound == DEFAULT_BOUND and leaf is node
                found.append(Partition(leaf.schema, leaf.name, parent, None, None, only, schema))
    return sorted(found, key=lambda leaf: (leaf.schema, leaf.name))


def unclassified_label(leaf: Partition) -> str:
    """How its unit is called: by name, unless it is the default partition beside the tiers'."""
    return "unclassified" if leaf.default else f"unclassified/{leaf.name}"


def check_tree(conn: Connection, dataset: Messages) -> None:
    """Refuse what no unit could be made of, before a run begins.

    Raises:
        UnsupportedPartitioningError: names the first such table.
    """
    for tier in Tier:
        tier_tree(conn, dataset, tier)


# -- from the catalogue to the tree ------------------------------------------------------------------------------------


def _tier_nodes(conn: Connection, dataset: Messages) -> list[Node]:
    schema, name = dataset.table.split(".", 1)
    root = root_of(conn, schema, name)
    if root is None or root.strategy != "l" or list(root.keys) != [dataset.tier]:
        raise UnsupportedPartitioningError(
            dataset.table,
            f"it is not partitioned by LIST ({dataset.tier})",
            "The first level has to tell the tiers apart, the next ones the time; see docs/adopters.md",
        )
    return children_of(conn, root)


def _tier_node(conn: Connection, dataset: Messages, tier: Tier) -> Node | None:
    for node in _tier_nodes(conn, dataset):
        if node.bound is not None and _tiers_of(dataset, node) == [tier.value]:
            return node
    return None


def _tiers_of(dataset: Messages, node: Node) -> list[str | None]:
    """The values of a LIST bound."""
    found = _LIST.fullmatch(node.bound or "")
    if found is None:
        return []
    values = [_value(item.group().rstrip(",").strip()) for item in _ITEM.finditer(found.group(1)) if item.group()]
    if len(values) > 1 and set(values) & {tier.value for tier in Tier}:
        raise UnsupportedPartitioningError(
            node.shown,
            f"it holds {len(values)} tiers in one partition, and a partition is disposed of under one tier's rule",
            f"Give each tier a partition of its own: ALTER TABLE {dataset.table} DETACH PARTITION {node.shown}, then"
            " attach one partition per tier",
        )
    return values


def _value(item: str) -> str | None:
    found = _TEXT.fullmatch(item)
    return found.group(1).replace("''", "'") if found else (None if item == "NULL" else item)


def _grow(conn: Connection, dataset: Messages | Records, node: Node, within: Within | None) -> Branch | Partition:
    """The tree below a tier's node, each partition with the span that reaches it."""
    schema, name = dataset.table.split(".", 1)
    bounds = Bounds(dataset.clock)
    if node.strategy is None:
        below = []
    else:
        below = all_below(conn, node) if within is None else list(_overlapping(conn, bounds, node, within))
    children: dict[int, list[Node]] = {}
    for each in below:
        if each.bound is not None:  # None: another shard dropped it while the catalogue was being read
            children.setdefault(each.parent, []).append(each)
    made = _make(dataset, node, (schema, name), (None, None), children, bare=True)
    _refuse_twins(made)
    ends = {end for leaf in _leaves(made) for end in (leaf.lower, leaf.upper) if end is not None}
    instants = bounds.instants(conn, ends)
    return made if instants is None else _with_instants(made, instants)


def _with_instants(made: Branch | Partition, known: Mapping[Mark, tuple[datetime, datetime]]) -> Branch | Partition:
    if isinstance(made, Branch):
        return replace(made, children=tuple(_with_instants(child, known) for child in made.children))
    earliest = None if made.lower is None else known[made.lower][0]
    latest = None if made.upper is None else known[made.upper][1]
    return replace(made, instants=(earliest, latest))


def _overlapping(conn: Connection, bounds: Bounds, node: Node, within: Within) -> Iterator[Node]:
    """Level by level, only where a span leads."""
    for child in children_of(conn, node):
        if child.bound is None or (child.bound != DEFAULT_BOUND and not _overlaps(_range(bounds, child), within)):
            continue
        yield child
        if child.strategy is not None:
            yield from _overlapping(conn, bounds, child, within)


def _overlaps(own: Ends, within: Within) -> bool:
    return (own[0] is None or own[0] < within[1]) and (own[1] is None or own[1] > within[0])


def _make(
    dataset: Messages | Records,
    node: Node,
    parent: tuple[str, str],
    within: Ends,
    children: dict[int, list[Node]],
    *,
    bare: bool = False,
) -> Branch | Partition:
    default = not bare and node.bound == DEFAULT_BOUND
    lower, upper = within if bare or default else _narrow(within, _range(Bounds(dataset.clock), node))
    if node.strategy is None:
        if node.kind != "r":
            raise UnsupportedPartitioningError(
                node.shown,
                "it is a foreign table, which can neither be locked nor dropped with what is in it",
                "Detach it and dispose of its rows where they are",
            )
        return Partition(node.schema, node.name, parent[1], lower, upper, default, parent[0])
    if node.strategy != "r" or list(node.keys) != [column_of(dataset.clock)]:
        raise UnsupportedPartitioningError(
            node.shown,
            f"it is partitioned by {_strategy(node)}, not by RANGE ({column_of(dataset.clock)})",
            "Below a tier every level has to divide time; partitions by anything else cannot fall due as a whole",
        )
    made = (
        _make(dataset, child, (node.schema, node.name), (lower, upper), children)
        for child in children.get(node.oid, [])
    )
    return Branch(node.schema, node.name, lower, upper, tuple(sorted(made, key=_clock_order)), default)


def _strategy(node: Node) -> str:
    kind = {"l": "LIST", "r": "RANGE", "h": "HASH"}.get(node.strategy or "", "something else")
    return f"{kind} ({', '.join(key or 'an expression' for key in node.keys)})"


def _range(bounds: Bounds, node: Node) -> Ends:
    found = _RANGE.fullmatch(node.bound or "")
    try:
        if found is None:
            raise ValueError(node.bound)
        return bounds.read(found.group(1), upper=False), bounds.read(found.group(2), upper=True)
    except ValueError:
        raise UnsupportedPartitioningError(
            node.shown,
            "its bounds are no times of its clock",
            "Bounds have to be what the clock holds (a timestamp, a number, an identifier), MINVALUE or MAXVALUE",
        ) from None


def _narrow(within: Ends, own: Ends) -> Ends:
    """What of its own span a partition can be reached with."""
    lowers = [bound for bound in (within[0], own[0]) if bound is not None]
    uppers = [bound for bound in (within[1], own[1]) if bound is not None]
    return max(lowers, default=None), min(uppers, default=None)


def _clock_order(part: Partition | Branch) -> tuple[bool, datetime, datetime]:
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    return part.default, part.lower or (last if part.default else first), part.upper or last


def _refuse_twins(tree: Branch | Partition) -> None:
    seen: dict[str, Partition] = {}
    for leaf in _leaves(tree):
        twin = seen.setdefault(leaf.label, leaf)
        if twin is not leaf:
            raise UnsupportedPartitioningError(
                f"{leaf.schema}.{leaf.name}",
                f"it covers the same span as {twin.schema}.{twin.name} ({leaf.label}), below different parents",
                "Detach one of them",
            )


def _leaves(tree: Branch | Partition) -> Iterable[Partition]:
    return tree.leaves() if isinstance(tree, Branch) else [tree]
