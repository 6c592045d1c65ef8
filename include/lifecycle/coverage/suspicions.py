"""Why a table or column is suspected to hold personal data, content, or a reference to a record. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from lifecycle.coverage.bindings import Bound, Identifier, Part
from lifecycle.coverage.facts import Column, Form, Relation, Sign
from lifecycle.coverage.names import Meaning, refers, strong, weak

# A lookup table has a name and a description too; it does not have this many rows.
LARGE_ROWS = 1_000
# What a row holds of a large object is its number; the bytes lie in pg_largeobject (JDBC, Hibernate's @Lob).
LARGE_OBJECT_TYPES = frozenset({"oid", "lo"})
_REFERRING = frozenset("SUNA")


@dataclass(frozen=True)
class Suspicion:
    """One reason, in words, and the identifier that the column refers to where it does."""

    text: str
    column: str | None = None
    target: Identifier | None = None


@dataclass(frozen=True)
class Known:
    """What suspicions are measured against: what is bound, every identifier of it, and whether large objects exist."""

    bound: dict[str, Bound]
    identifiers: tuple[Identifier, ...]
    large_objects: bool = False

    def named(self, name: str) -> Identifier | None:
        return next((item for item in self.identifiers if item.name == name), None)

    def of_table(self, table: str) -> Identifier | None:
        """The foremost identifier of a bound table."""
        return next((item for item in self.identifiers if item.table == table), None)


def of_unbound(relation: Relation, known: Known) -> list[Suspicion]:
    """Why a table that nothing binds should be bound; empty for what has nothing to do with a record or a person."""
    found = [*_foreign_keys(relation, known)]
    for column in relation.columns:
        found.extend(_of_column(relation, column, known))
    if not found and not relation.readable:
        found.append(Suspicion("this role may not read it, so nobody knows what it holds"))
    return _unique(found)


def follow(relation: Relation, suspected: Iterable[str]) -> list[Suspicion]:
    """A table that refers to a suspected one refers to the same record."""
    names = set(suspected)
    return [
        Suspicion(f"foreign key from {reference.column} to {reference.table}, which is suspected itself")
        for reference in relation.references
        if reference.table in names and reference.table != relation.name
    ]


def of_columns(relation: Relation, bound: Bound, known: Known) -> dict[str, list[Suspicion]]:
    """Per undeclared column of a bound table what would outlive the record, or stay when the row is de-identified."""
    found: dict[str, list[Suspicion]] = {}
    for column in relation.columns:
        if known.large_objects and column.type in LARGE_OBJECT_TYPES:
            text = f"column {column.name} ({column.type}) may name a large object, which stays when its row goes"
            found[column.name] = [Suspicion(text, column.name)]
            continue
        if column.name in bound.declared or bound.part in (Part.RESEARCH, Part.REFRESHED):
            continue
        reasons = _unique(_of_bound_column(relation, column, bound, known))
        if reasons:
            found[column.name] = reasons
    return found


def _of_bound_column(relation: Relation, column: Column, bound: Bound, known: Known) -> Iterator[Suspicion]:
    if Sign.OBJECT in column.content.signs:
        yield Suspicion(f"holds {Sign.OBJECT.value}: objects that no binding disposes of with the row", column.name)
    match bound.part:
        case Part.ACCOUNTS:
            yield from _personal(relation, column)
            if known.named(f"{relation.name}.{column.name}") is not None:
                yield Suspicion(f"column {column.name} is a second identifier of the person", column.name)
        case Part.OUTLIVING:
            yield from _personal(relation, column)
            yield from _references(relation, column, known, but=bound.table)
            yield from (item for item in _foreign_keys(relation, known) if item.column == column.name)
        case Part.SUBMISSIONS:
            yield from _references(relation, column, known, but=bound.table)
            yield from (item for item in _foreign_keys(relation, known) if item.column == column.name)
        case _:
            return


def _of_column(relation: Relation, column: Column, known: Known) -> Iterator[Suspicion]:
    yield from _references(relation, column, known)
    yield from _personal(relation, column)


def _foreign_keys(relation: Relation, known: Known) -> Iterator[Suspicion]:
    for reference in relation.references:
        bound = known.bound.get(reference.table)
        if bound is None or reference.table == relation.name:
            continue
        target = known.named(f"{reference.table}.{reference.target}") or known.of_table(reference.table)
        yield Suspicion(
            f"foreign key from {reference.column} to {reference.table}.{reference.target}", reference.column, target
        )


def _references(relation: Relation, column: Column, known: Known, but: str | None = None) -> Iterator[Suspicion]:
    """By name and by content. ``but``: a table whose own identifiers the column may well have."""
    identifiers = [item for item in known.identifiers if item.table != but]
    for identifier in identifiers:
        if identifier.name in column.content.identifiers:
            kind = "ids of" if identifier.declared else "values of the second identifier"
            yield Suspicion(f"column {column.name} holds {kind} {identifier.name}", column.name, identifier)
    if column.category in _REFERRING:
        named = _named(column.name, identifiers)
        if named is not None:
            kind = "" if named.declared else "second identifier "
            yield Suspicion(f"column {column.name} is named like {kind}{named.name}", column.name, named)
    inner = sorted({item.name for key in column.content.keys for item in [_named(key, identifiers)] if item})
    for name in inner:
        yield Suspicion(f"column {column.name} holds JSON with a key named like {name}", column.name)


def _named(name: str, identifiers: Sequence[Identifier]) -> Identifier | None:
    """The identifier that a name is likely to mean; declared ones first."""
    for identifier in identifiers:
        same = refers(name, identifier.spoken) if identifier.declared else name.lower() == identifier.spoken.lower()
        if same:
            return identifier
    return None


def _personal(relation: Relation, column: Column) -> Iterator[Suspicion]:
    meaning = strong(column.name, column.category, column.type)
    if meaning is None and relation.rows >= LARGE_ROWS:
        meaning = weak(column.name, column.category, column.type)
    if meaning is not None:
        yield Suspicion(f"column {column.name} ({column.type}) is named like {meaning.value}", column.name)
    for sign in sorted(column.content.signs):
        yield Suspicion(f"column {column.name} holds {sign.value}", column.name)
    meanings = {_of_key(key) for key in column.content.keys} - {None}
    for inner in sorted(item for item in meanings if item is not None):
        yield Suspicion(f"column {column.name} holds JSON with keys named like {inner.value}", column.name)


def _of_key(key: str) -> Meaning | None:
    return strong(key, "S", "text")


def _unique(found: Iterable[Suspicion]) -> list[Suspicion]:
    return list({item.text: item for item in found}.values())


def is_copy(relation: Relation, known: Known) -> bool:
    """A materialized view of something bound, directly or through views, is a second place for the same data."""
    return relation.form is Form.COPY and any(table in known.bound for table in relation.reads)
