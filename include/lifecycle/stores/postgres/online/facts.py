"""What PostgreSQL's catalogue says about a table: everything that has to follow it, or that forbids moving it."""

from __future__ import annotations

from dataclasses import dataclass, field

from psycopg import sql

# Checks of ours on the ordinary table, that a column of the future key is never NULL.
GUARD = "lifecycle_given_"


@dataclass(frozen=True)
class Name:
    """A relation by schema and name, as the catalogue has them (not folded, not quoted)."""

    schema: str
    name: str

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)

    def sibling(self, name: str) -> Name:
        return Name(self.schema, name)

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True)
class Grant:
    """One privilege of one role; ``grantee`` None is PUBLIC. ``column`` None is the whole relation."""

    grantee: str | None
    privilege: str
    grantable: bool
    column: str | None = None


@dataclass(frozen=True)
class Column:
    name: str
    type: str
    not_null: bool
    default: str | None
    generated: bool
    identity: str
    sequence: Name | None
    comment: str | None
    statistics: int | None


@dataclass(frozen=True)
class Constraint:
    """``kind`` as in pg_constraint: p, u, c, f, x. ``columns`` in the order of the key."""

    name: str
    kind: str
    definition: str
    columns: tuple[str, ...]
    validated: bool
    deferrable: bool
    comment: str | None


@dataclass(frozen=True)
class Index:
    """``tail`` begins with USING. ``columns``: the key's plain columns; an expression is an empty string."""

    name: str
    tail: str
    unique: bool
    valid: bool
    partial: bool
    method: str
    columns: tuple[str, ...]
    included: tuple[str, ...]
    constraint: str | None
    comment: str | None


@dataclass(frozen=True)
class Trigger:
    name: str
    definition: str
    enabled: str
    per_row: bool
    transition_tables: bool
    comment: str | None


@dataclass(frozen=True)
class Policy:
    name: str
    permissive: bool
    command: str
    roles: tuple[str, ...]
    using: str | None
    check: str | None


@dataclass(frozen=True)
class Dependant:
    """A view or a function that names the table and is replaced in place, keeping its identity and its grants."""

    name: Name
    kind: str
    definition: str
    options: tuple[str, ...]
    ours: bool


@dataclass(frozen=True)
class InboundKey:
    """A foreign key of another table that refers to this one."""

    table: Name
    name: str
    definition: str
    columns: tuple[str, ...]
    referenced: tuple[str, ...]
    table_columns: tuple[tuple[str, str], ...]
    partitioned: bool
    own: bool
    ours: bool


@dataclass(frozen=True)
class Publication:
    name: str
    via_root: bool
    all_tables: bool
    narrowed: bool
    ours: bool


@dataclass(frozen=True)
class SequenceFacts:
    """``last`` is None while nothing has been drawn."""

    name: Name
    column: str
    last: int | None
    options: tuple[tuple[str, str], ...]
    grants: tuple[Grant, ...]


@dataclass(frozen=True)
class TableFacts:
    name: Name
    oid: int
    kind: str
    persistence: str
    owner: str
    ours: bool
    may_create: bool
    bypasses_rls: bool
    comment: str | None
    options: tuple[str, ...]
    replica_identity: str
    row_security: bool
    force_row_security: bool
    plain_heap: bool
    inherits: bool
    rows: int
    bytes: int
    columns: tuple[Column, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    indexes: tuple[Index, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    policies: tuple[Policy, ...] = ()
    grants: tuple[Grant, ...] = ()
    dependants: tuple[Dependant, ...] = ()
    inbound: tuple[InboundKey, ...] = ()
    publications: tuple[Publication, ...] = ()
    sequences: tuple[SequenceFacts, ...] = ()
    statistics: tuple[tuple[Name, str], ...] = ()
    in_the_way: tuple[str, ...] = ()
    taken: frozenset[str] = field(default_factory=frozenset)

    @property
    def primary_key(self) -> Constraint | None:
        return next((found for found in self.constraints if found.kind == "p"), None)

    @property
    def writable(self) -> tuple[str, ...]:
        """Columns that an INSERT names: all but the generated ones."""
        return tuple(column.name for column in self.columns if not column.generated)

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)

    def structure(self) -> str:
        """What may not change while a copy is under way; two equal texts are two equal tables for the copy."""
        columns = [(c.name, c.type, c.not_null, c.default, c.generated, c.identity) for c in self.columns]
        constraints = sorted((c.name, c.kind, c.definition) for c in self.constraints if not c.name.startswith(GUARD))
        indexes = sorted((i.name, i.tail, i.unique) for i in self.indexes)
        return repr((columns, constraints, indexes))
