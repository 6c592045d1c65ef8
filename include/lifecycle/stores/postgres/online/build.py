"""The statements that make the empty tree beside the ordinary table. Pure."""

from __future__ import annotations

from psycopg import sql

from lifecycle.stores.postgres.online.facts import Constraint, Index, TableFacts
from lifecycle.stores.postgres.online.layout import Layout, Leaf
from lifecycle.stores.postgres.online.refusals import extended_key, stays_unique
from lifecycle.stores.postgres.online.text import idents, raw, stmt


def tree_name(layout: Layout, position: int) -> str:
    """What an index of the tree is called until the switch gives it the name it has on the ordinary table."""
    return f"{layout.root.name}_{position}"


def parked_name(layout: Layout, position: int) -> str:
    return f"{layout.parked.name}_{position}"


def create_tree(facts: TableFacts, layout: Layout) -> list[sql.Composed]:
    """Root, one branch per tier, and the defaults, with columns, checks, indexes and keys."""
    return [
        _root(facts, layout),
        *_checks(facts, layout),
        *_indexes(facts, layout),
        *_branches(layout),
        *[_default(layout, parent, name) for parent, name in _default_parents(layout)],
        *[_owner(facts, layout, name) for name in (layout.root.name, *_branch_names(layout), *layout.defaults)],
        *[alter for name in layout.defaults for alter in storage(facts, layout, name)],
        *_replica_identity(facts, layout, layout.root.name),
    ]


def _branch_names(layout: Layout) -> tuple[str, ...]:
    return tuple(branch for tier, branch in layout.branches if tier is not None)


def _root(facts: TableFacts, layout: Layout) -> sql.Composed:
    return stmt(
        "CREATE TABLE {} (LIKE {} INCLUDING DEFAULTS INCLUDING GENERATED INCLUDING STORAGE INCLUDING COMPRESSION"
        " INCLUDING COMMENTS) PARTITION BY {}",
        layout.root.identifier,
        facts.name.identifier,
        _by_range(layout) if layout.tier is None else stmt("LIST ({})", sql.Identifier(layout.tier)),
    )


def _by_range(layout: Layout) -> sql.Composed:
    return stmt("RANGE ({})", sql.Identifier(layout.clock))


def _checks(facts: TableFacts, layout: Layout) -> list[sql.Composed]:
    """Checks that every row meets. One that is NOT VALID follows at the switch, since old rows may break it."""
    return [
        add_check(layout.root.identifier, found) for found in facts.constraints if found.kind == "c" and found.validated
    ]


def add_check(table: sql.Identifier, found: Constraint) -> sql.Composed:
    # An ordinary table without children means nothing by NO INHERIT, and a partitioned one refuses it.
    text = found.definition.replace(" NO INHERIT", "")
    return stmt("ALTER TABLE {} ADD CONSTRAINT {} {}", table, sql.Identifier(found.name), raw(text))


def _indexes(facts: TableFacts, layout: Layout) -> list[sql.Composed]:
    made: list[sql.Composed] = []
    for position, index in enumerate(facts.indexes):
        name = tree_name(layout, position)
        made.append(_index(facts, layout, index, name))
        if index.comment is not None:
            made.append(
                stmt("COMMENT ON INDEX {} IS {}", layout.table.sibling(name).identifier, sql.Literal(index.comment))
            )
    return made


def _index(facts: TableFacts, layout: Layout, index: Index, name: str) -> sql.Composed:
    table = layout.root.identifier
    primary = facts.primary_key
    if primary is not None and index.constraint == primary.name:
        included = [column for column in index.included if column not in layout.key_columns]
        return stmt(
            "ALTER TABLE {} ADD CONSTRAINT {} PRIMARY KEY ({}){}",
            table,
            sql.Identifier(name),
            idents(extended_key(facts, layout)),
            stmt(" INCLUDE ({})", idents(included)) if included else sql.SQL(""),
        )
    unique = index.unique and stays_unique(index, layout)
    constraint = next((found for found in facts.constraints if found.name == index.constraint), None)
    if unique and constraint is not None:
        return stmt("ALTER TABLE {} ADD CONSTRAINT {} {}", table, sql.Identifier(name), raw(constraint.definition))
    return stmt(
        "CREATE {}INDEX {} ON {} {}", sql.SQL("UNIQUE " if unique else ""), sql.Identifier(name), table, raw(index.tail)
    )


def _branches(layout: Layout) -> list[sql.Composed]:
    if layout.tier is None:
        return []
    return [
        stmt(
            "CREATE TABLE {} PARTITION OF {} FOR VALUES IN ({}) PARTITION BY {}",
            layout.table.sibling(name).identifier,
            layout.root.identifier,
            sql.Literal(value),
            _by_range(layout),
        )
        for value, name in layout.branches
    ]


def _default_parents(layout: Layout) -> list[tuple[str, str]]:
    own = (layout.root.name, f"{layout.table.name}_default")
    if layout.tier is None:
        return [own]
    return [own, *((branch, layout.default_of(branch)) for _, branch in layout.branches)]


def _default(layout: Layout, parent: str, name: str) -> sql.Composed:
    return stmt(
        "CREATE TABLE {} PARTITION OF {} DEFAULT",
        layout.table.sibling(name).identifier,
        layout.table.sibling(parent).identifier,
    )


def _owner(facts: TableFacts, layout: Layout, name: str) -> sql.Composed:
    return stmt("ALTER TABLE {} OWNER TO {}", layout.table.sibling(name).identifier, sql.Identifier(facts.owner))


def storage(facts: TableFacts, layout: Layout, name: str) -> list[sql.Composed]:
    """What only a table that holds rows can have: storage parameters, replica identity."""
    table = layout.table.sibling(name).identifier
    made = _replica_identity(facts, layout, name)
    if facts.options:
        pairs = [option.partition("=") for option in facts.options]
        shown = [stmt("{} = {}", _parameter(key), sql.Literal(value)) for key, _, value in pairs]
        made.append(stmt("ALTER TABLE {} SET ({})", table, sql.SQL(", ").join(shown)))
    return made


def _parameter(key: str) -> sql.Composable:
    toast, dot, name = key.partition(".")
    return stmt("{}.{}", sql.Identifier(toast), sql.Identifier(name)) if dot else sql.Identifier(key)


def _replica_identity(facts: TableFacts, layout: Layout, name: str) -> list[sql.Composed]:
    words = {"f": "FULL", "n": "NOTHING"}.get(facts.replica_identity)
    if words is None:
        return []
    return [stmt("ALTER TABLE {} REPLICA IDENTITY {}", layout.table.sibling(name).identifier, raw(words))]


def create_leaf(facts: TableFacts, layout: Layout, leaf: Leaf) -> list[sql.Composed]:
    return [
        stmt(
            "CREATE TABLE {} PARTITION OF {} FOR VALUES FROM ({}) TO ({})",
            layout.table.sibling(leaf.name).identifier,
            layout.table.sibling(leaf.parent).identifier,
            *bounds(leaf),
        ),
        _owner(facts, layout, leaf.name),
        *storage(facts, layout, leaf.name),
    ]


def bounds(leaf: Leaf) -> tuple[sql.Literal, sql.Literal]:
    """Midnight in UTC, whatever the type of the clock: a zone is ignored where the type has none."""
    return (
        sql.Literal(f"{leaf.lower.isoformat()} 00:00:00+00"),
        sql.Literal(f"{leaf.upper.isoformat()} 00:00:00+00"),
    )


def foreign_keys(facts: TableFacts, layout: Layout) -> list[tuple[str, sql.Composed]]:
    """(name, statement): the keys by which the table refers to others; the tree is empty, so nothing is scanned."""
    return [
        (
            found.name,
            stmt(
                "ALTER TABLE {} ADD CONSTRAINT {} {}",
                layout.root.identifier,
                sql.Identifier(found.name),
                raw(found.definition),
            ),
        )
        for found in facts.constraints
        if found.kind == "f"
    ]


def column_statistics(facts: TableFacts, layout: Layout) -> list[sql.Composed]:
    return [
        stmt(
            "ALTER TABLE {} ALTER COLUMN {} SET STATISTICS {}",
            layout.root.identifier,
            sql.Identifier(column.name),
            sql.Literal(column.statistics),
        )
        for column in facts.columns
        if column.statistics is not None
    ]
