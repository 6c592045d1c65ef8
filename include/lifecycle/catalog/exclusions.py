"""What must hold for the declared exclusions of a dataset file: each names one thing, once, that nothing binds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lifecycle.catalog.stages import all_of
from lifecycle.contradiction import Contradiction
from lifecycle.yaml_source import Path_

if TYPE_CHECKING:
    from lifecycle.catalog.models import Catalog, Exclusion

_FORMS = "Write table, table and column, table and trigger, publication, bucket, or bucket and prefix"
_SAME = "Keep one of the two"


def exclusion_contradictions(catalog: Catalog) -> Iterator[Contradiction]:
    """Exclusions that name nothing, too much, the same thing twice, or what a dataset binds."""
    seen: set[tuple[str | None, ...]] = set()
    for index, exclusion in enumerate(catalog.exclusions):
        where: Path_ = ("exclusions", index)
        problem = _shape(exclusion)
        if problem is not None:
            yield Contradiction(where, problem, _FORMS)
            continue
        named = (exclusion.table, exclusion.column, exclusion.bucket, exclusion.prefix)
        target = (*named, exclusion.publication, exclusion.trigger)
        if target in seen:
            yield Contradiction(where, "the same thing is already excluded", _SAME)
        seen.add(target)
        yield from _bound(exclusion, catalog, where)


def _shape(exclusion: Exclusion) -> str | None:
    named = (exclusion.table, exclusion.column, exclusion.bucket, exclusion.prefix)
    if exclusion.publication is not None:
        return None if {*named, exclusion.trigger} == {None} else "a publication is excluded whole, and by itself"
    if exclusion.trigger is not None:
        whole_table = exclusion.table is not None and not exclusion.table.endswith(".*")
        alone = {exclusion.column, exclusion.bucket, exclusion.prefix} == {None}
        return None if whole_table and alone else "a trigger needs the table it belongs to, and nothing else"
    match named:
        case (None, None, None, None):
            return "this exclusion names nothing"
        case (str(), _, None, None):
            whole_schema = exclusion.column is not None and (exclusion.table or "").endswith(".*")
            return "a column needs the table it belongs to, not a schema" if whole_schema else None
        case (None, None, str(), _):
            return None
        case (None, str(), _, _):
            return "a column needs the table it belongs to"
        case (_, _, None, str()):
            return "a prefix needs the bucket it belongs to"
        case _:
            return "this exclusion names a table and a bucket"


def _bound(exclusion: Exclusion, catalog: Catalog, where: Path_) -> Iterator[Contradiction]:
    """What has a rule is no exception from having one."""
    tables, buckets = bound_tables(catalog), owned_buckets(catalog)
    if exclusion.trigger is not None:
        return
    if exclusion.column is None and exclusion.table in tables:
        yield Contradiction(
            (*where, "table"),
            f"{exclusion.table} is bound by {tables[exclusion.table]}",
            "Remove the exclusion, or name one of its columns",
        )
    if exclusion.table is not None and exclusion.table.endswith(".*"):
        inside = sorted(table for table in tables if table.startswith(exclusion.table[:-1]))
        if inside:
            yield Contradiction(
                (*where, "table"),
                f"{exclusion.table} covers {inside[0]}, which is bound by {tables[inside[0]]}",
                "Name single tables",
            )
    if exclusion.prefix is None and exclusion.bucket in buckets:
        yield Contradiction(
            (*where, "bucket"),
            f"bucket {exclusion.bucket!r} belongs to {buckets[exclusion.bucket]}",
            "Remove the exclusion, or name a prefix",
        )


def bound_tables(catalog: Catalog) -> dict[str, str]:
    """Each table that something disposes of or decides by, and what that is. ``referenced_by`` alone is neither."""
    bound: dict[str, str] = {}
    if catalog.has_messages:
        bound[catalog.messages.research.table] = "research"
        bound |= {child.table: f"the children of {catalog.messages.id!r}" for child in catalog.messages.children}
    for name in ("flags", "consents", "cases", "agreements"):
        if (facts := getattr(catalog.exceptions, name)) is not None:
            bound[facts.table] = f"exceptions.{name}"
    for dataset in catalog.tables:
        bound |= {child.table: f"the children of {dataset.id!r}" for child in all_of(dataset.children)}
    tabled = [(dataset.table, dataset.id) for dataset in catalog.datasets if dataset.type != "logs"]
    return bound | {table: f"dataset {dataset_id!r}" for table, dataset_id in tabled}


def owned_buckets(catalog: Catalog) -> dict[str, str]:
    """Each bucket that the dataset file names, and what it is for."""
    owned = {dataset.bucket: f"dataset {dataset.id!r}" for dataset in catalog.logs}
    if not catalog.has_messages:
        return owned | {catalog.evidence_bucket: "the evidence"}
    messages = catalog.messages
    if messages.research.bucket is not None:
        owned[messages.research.bucket] = "research"
    owned[messages.quarantine.bucket] = "the quarantine"
    owned[messages.objects.bucket] = f"dataset {messages.id!r}"
    return owned | {catalog.evidence_bucket: "the evidence"}
