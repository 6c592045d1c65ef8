"""The comparison: facts and catalog in, differences out. Pure; the instant at which exclusions count is an argument."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta

from lifecycle.catalog.exclusions import owned_buckets
from lifecycle.catalog.models import Catalog, Exclusion
from lifecycle.coverage import remedies
from lifecycle.coverage.bindings import Bound, bound_by, identifiers_of
from lifecycle.coverage.differences import Coverage, Difference, Remedy, What
from lifecycle.coverage.facts import Copier, Facts, Form, Publication, Relation, Stray
from lifecycle.coverage.second_copies import second_copies
from lifecycle.coverage.suspicions import LARGE_OBJECT_TYPES, Known, Suspicion, follow, is_copy, of_columns, of_unbound
from lifecycle.policy.models import Policy, Tier, Trigger

_LONGEST = timedelta(days=2 * 366)


def compare(facts: Facts, catalog: Catalog, policy: Policy, as_of: datetime) -> Coverage:
    """Everything that exists, is suspected and is neither bound nor excluded at an instant."""
    known = Known(bound_by(catalog), identifiers_of(catalog, facts.relations), facts.large_objects)
    excluded = Excluded(catalog.exclusions, as_of)
    differences = [
        *_tables(facts.relations, known, catalog, excluded),
        *_columns(facts.relations, known, catalog, excluded),
        *_buckets(facts.buckets or (), catalog, excluded),
        *_prefixes(facts, excluded),
        *_records(facts, catalog, policy),
    ]
    copies = tuple(_second_copies(facts, known, excluded))
    return Coverage(
        as_of=as_of,
        differences=tuple(differences),
        warnings=(*copies, *_warnings(facts, catalog, known, excluded)),
        second_copies=len(copies),
        unused_exclusions=len(excluded.unused()),
        views=tuple(
            f"{relation.name} shows {', '.join(sorted(set(relation.reads) & set(known.bound)))}"
            for relation in facts.relations
            if relation.form is Form.VIEW and set(relation.reads) & set(known.bound)
        ),
        looked_at={
            "tables": sum(relation.form is not Form.VIEW for relation in facts.relations),
            "columns": sum(len(relation.columns) for relation in facts.relations),
            "buckets": len(facts.buckets or ()),
        },
        unclassified=dict(facts.unclassified),
    )


@dataclass
class Excluded:
    """The declared exclusions, and which of them were needed."""

    declared: Sequence[Exclusion]
    as_of: datetime
    used: set[int] = field(default_factory=set)

    def table(self, name: str) -> bool:
        schema = f"{name.split('.', 1)[0]}.*"
        return self._any(lambda item: item.column is None and item.trigger is None and item.table in (name, schema))

    def column(self, table: str, name: str) -> bool:
        return self._any(lambda item: item.table == table and item.column == name)

    def bucket(self, name: str) -> bool:
        return self._any(lambda item: item.bucket == name and item.prefix is None)

    def prefix(self, bucket: str, stray: Stray) -> bool:
        return self._any(
            lambda item: item.bucket == bucket and item.prefix is not None and stray.shape.startswith(item.prefix)
        )

    def copy(self, copy: Publication | Copier) -> bool:
        if isinstance(copy, Publication):
            return self._any(lambda item: item.publication == copy.name)
        return self._any(lambda item: item.table == copy.table and item.trigger == copy.name)

    def ended(self, index: int) -> bool:
        """From the beginning of its last day (UTC) on an exclusion no longer counts."""
        until = datetime.combine(self.declared[index].until, time(), UTC)
        return self.as_of >= until

    def unused(self) -> list[int]:
        return [index for index in range(len(self.declared)) if index not in self.used]

    def _any(self, matches: Callable[[Exclusion], bool]) -> bool:
        found = False
        for index, item in enumerate(self.declared):
            if matches(item):
                # One that has ended is not without use: it says that somebody has to decide again.
                self.used.add(index)
                found = found or not self.ended(index)
        return found


def _tables(relations: Sequence[Relation], known: Known, catalog: Catalog, excluded: Excluded) -> Iterator[Difference]:
    unbound = [item for item in relations if item.form is not Form.VIEW and item.name not in known.bound]
    suspected = _suspected(unbound, known, excluded)
    for relation in unbound:
        copy = is_copy(relation, known)
        reasons = suspected.get(relation.name, [])
        if not reasons and not copy:
            excluded.table(relation.name)  # not needed, yet it names something that exists
            continue
        if excluded.table(relation.name):
            continue
        if copy:
            sources = ", ".join(sorted(set(relation.reads) & set(known.bound)))
            yield Difference(
                What.COPY,
                relation.name,
                (f"a copy of {sources}", *_texts(reasons)),
                remedies.for_copy(relation.name, excluded.as_of),
            )
        else:
            yield Difference(
                What.TABLE,
                relation.name,
                _texts(reasons),
                remedies.for_table(relation.name, reasons, catalog, excluded.as_of),
            )


def _suspected(unbound: Sequence[Relation], known: Known, excluded: Excluded) -> dict[str, list[Suspicion]]:
    """Suspicions per table, but those of excluded columns; what refers to a suspected table is suspected too, however
    long the chain."""
    found = {}
    for relation in unbound:
        ignored = {column.name for column in relation.columns if excluded.column(relation.name, column.name)}
        reasons = [reason for reason in of_unbound(relation, known) if reason.column not in ignored]
        if reasons:
            found[relation.name] = reasons
    grown = True
    while grown:
        grown = False
        for relation in unbound:
            if relation.name not in found and (reasons := follow(relation, found)):
                found[relation.name] = reasons
                grown = True
    return found


def _columns(relations: Sequence[Relation], known: Known, catalog: Catalog, excluded: Excluded) -> Iterator[Difference]:
    for relation in relations:
        bound = known.bound.get(relation.name)
        if bound is None:
            continue
        for column in relation.columns:
            excluded.column(relation.name, column.name)
        types = {column.name: column.type for column in relation.columns}
        for name, reasons in of_columns(relation, bound, known).items():
            if excluded.column(relation.name, name):
                continue
            yield Difference(
                What.COLUMN,
                f"{relation.name}.{name}",
                (_is_bound(relation.name, name, bound), *_texts(reasons)),
                remedies.for_large_object(relation.name, name, excluded.as_of)
                if types[name] in LARGE_OBJECT_TYPES
                else remedies.for_column(relation.name, name, bound.part, catalog, excluded.as_of),
            )


def _is_bound(table: str, column: str, bound: Bound) -> str:
    named = "" if column in bound.declared else ", which does not name this column"
    return f"{table} is {bound.said}{named}"


def _buckets(buckets: Sequence[str], catalog: Catalog, excluded: Excluded) -> Iterator[Difference]:
    owned = owned_buckets(catalog)
    for name in buckets:
        if name in owned or excluded.bucket(name):
            continue
        yield Difference(
            What.BUCKET, name, ("no dataset names this bucket",), remedies.for_bucket(name, excluded.as_of)
        )


def _prefixes(facts: Facts, excluded: Excluded) -> Iterator[Difference]:
    for bucket, strays in facts.strays.items():
        for stray in strays:
            if excluded.prefix(bucket, stray):
                continue
            times = f", {stray.count} of this form" if stray.count > 1 else ""
            yield Difference(
                What.PREFIX,
                f"{bucket}/{stray.shape}",
                (f"outside the prefixes that the dataset file declares for this bucket{times}",),
                remedies.for_stray(bucket, stray, excluded.as_of),
            )


def _records(facts: Facts, catalog: Catalog, policy: Policy) -> Iterator[Difference]:
    """What no rule reaches: a category without a default, and records without a clock."""
    for dataset in catalog.datasets:
        without = [
            tier.value
            for tier in Tier
            if not any(policy.rule_for(each, dataset.category, tier) for each in (Trigger.DEFAULT, Trigger.CONSENT))
        ]
        if without:
            yield Difference(
                What.RECORDS,
                dataset.id,
                (f"no rule ends {dataset.category.value} of tier {', '.join(without)}",),
                (Remedy("add a rule of trigger default for them to the policy file"),),
            )
    for name, count in facts.timeless.items():
        if count:
            yield Difference(
                What.RECORDS,
                name,
                (f"{count:,} record(s) have no clock, so no rule ever reaches them",),
                (Remedy("give each of them the time its period counts from, and make the column NOT NULL"),),
            )


def _second_copies(facts: Facts, known: Known, excluded: Excluded) -> Iterator[str]:
    tables = [relation.name for relation in facts.relations if relation.form is not Form.VIEW]
    governed = {name for name in tables if excluded.table(name)} | set(known.bound)
    yield from second_copies(facts.publications, facts.copiers, known.bound, governed, excluded.copy)


def _warnings(facts: Facts, catalog: Catalog, known: Known, excluded: Excluded) -> Iterator[str]:
    for index in excluded.unused():
        yield f"exclusions[{index}] matches nothing that exists: remove it"
    for index, item in enumerate(catalog.exclusions):
        if excluded.ended(index):
            yield f"exclusions[{index}] ended on {item.until.isoformat()}: decide again"
        elif item.until > (excluded.as_of + _LONGEST).date():
            yield f"exclusions[{index}] runs until {item.until.isoformat()}: nobody decides again within two years"
        if item.reason == remedies.UNWRITTEN_REASON:
            yield f"exclusions[{index}] still has the reason of the suggestion: write the true one"
    if facts.buckets is None:
        yield "the S3 key may not list buckets, so buckets nobody owns are not seen: grant ListAllMyBuckets"
    for said in facts.logged:
        yield f"{said}: the server's log holds what is written, values and all, and no rule ends it: keep it short"
    for name in sorted(set(known.bound) - {relation.name for relation in facts.relations}):
        yield f"{name} is bound, but does not exist"
    for name, count in facts.unclassified.items():
        if count:
            yield f"{count:,} record(s) of {name} are of no declared tier: the strictest default applies to them"


def _texts(reasons: Sequence[Suspicion]) -> tuple[str, ...]:
    return tuple(item.text for item in reasons)
