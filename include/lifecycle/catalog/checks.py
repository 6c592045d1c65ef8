"""What must hold across a dataset file; pydantic has already checked each field by itself."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lifecycle.catalog.clocks import column_of
from lifecycle.catalog.exclusions import exclusion_contradictions
from lifecycle.catalog.log_parts import log_stage_contradictions
from lifecycle.catalog.models import Accounts, Catalog, Child, Dataset, Logs, Messages, Records
from lifecycle.catalog.names import layout_path_problem, name_contradictions
from lifecycle.catalog.parts import part_contradictions
from lifecycle.catalog.stage_checks import stage_contradictions
from lifecycle.catalog.tier_checks import tier_contradictions
from lifecycle.contradiction import Contradiction
from lifecycle.policy.models import Category
from lifecycle.yaml_source import Path_

LAYOUT_NAMES = ("tier", "date", "record")
_FIELD = re.compile(r"\{([^{}]*)\}")
_LITERAL = re.compile(r"[A-Za-z0-9!_.*'()=/-]*")
_CATEGORIES: dict[type[Messages | Records | Accounts | Logs], tuple[Category, ...]] = {
    Messages: (Category.PROMPTS_AND_OUTPUTS,),
    Records: (
        Category.SAFETY_SCORES,
        Category.FEEDBACK,
        Category.TRAINING_USE,
        Category.USAGE_RECORDS,
        Category.PROMPTS_AND_OUTPUTS,
    ),
    Accounts: (Category.ACCOUNT_DATA,),
    Logs: (Category.PROMPTS_AND_OUTPUTS, Category.USAGE_RECORDS),
}


def contradictions(catalog: Catalog) -> Iterator[Contradiction]:
    """Everything that no single field shows: duplicates, overlaps, missing parts, layouts that lose records."""
    yield from _duplicates(catalog)
    yield from _whole_or_none(catalog)
    for index, dataset in enumerate(catalog.datasets):
        where = ("datasets", index)
        yield from _category(dataset, where)
        if isinstance(dataset, Messages):
            yield from _children(dataset, catalog, where)
            yield from _layouts(dataset, where)
            yield from _buckets(dataset, catalog, where)
        if isinstance(dataset, Records):
            yield from _record_columns(dataset, where)
        if isinstance(dataset, Accounts):
            yield from _accounts(dataset, where)
    yield from _log_prefixes(catalog)
    yield from _native_logs(catalog)
    yield from name_contradictions(catalog)
    yield from stage_contradictions(catalog)
    yield from log_stage_contradictions(catalog)
    yield from tier_contradictions(catalog)
    if _complete(catalog):
        yield from part_contradictions(catalog)
        yield from exclusion_contradictions(catalog)


def _duplicates(catalog: Catalog) -> Iterator[Contradiction]:
    ids: dict[str, int] = {}
    tables: dict[str, int] = {}
    for index, dataset in enumerate(catalog.datasets):
        if dataset.id in ids:
            yield Contradiction(
                ("datasets", index, "id"),
                f"dataset id {dataset.id!r} is used twice",
                "Give each dataset an id of its own",
            )
        ids.setdefault(dataset.id, index)
        if isinstance(dataset, Logs):
            continue
        if dataset.table in tables:
            yield Contradiction(
                ("datasets", index, "table"),
                f"table {dataset.table} is already dataset {catalog.datasets[tables[dataset.table]].id!r}",
                "Bind each table once",
            )
        tables.setdefault(dataset.table, index)


def _complete(catalog: Catalog) -> bool:
    """Whether what messages need is there, or there are none: then nothing refers to what is missing."""
    return not any(True for _ in _whole_or_none(catalog))


def _whole_or_none(catalog: Catalog) -> Iterator[Contradiction]:
    """Messages, and logs of them, need accounts and every kind of exception; ordinary tables need none of these."""
    needed = catalog.has_messages or not catalog.tables
    if needed:
        facts = catalog.exceptions
        for part, found_part in (
            ("flags", facts.flags),
            ("consents", facts.consents),
            ("cases", facts.cases),
            ("agreements", facts.agreements),
        ):
            if found_part is None:
                yield Contradiction(
                    ("exceptions", part),
                    "is missing, and a partitioned_table needs it",
                    f"Add `{part}: {{table: <schema.table>, …}}`, with its columns",
                )
    elif catalog.logs:
        index = next(index for index, dataset in enumerate(catalog.datasets) if isinstance(dataset, Logs))
        yield Contradiction(
            ("datasets", index, "type"),
            "no dataset is of type partitioned_table, and lines of logs are held by their messages' conversations",
            "Add one with `type: partitioned_table`, or leave the logs out",
        )
    for kind, name in ((Messages, "partitioned_table"), (Accounts, "accounts")):
        found = [index for index, dataset in enumerate(catalog.datasets) if isinstance(dataset, kind)]
        if not found and needed:
            yield Contradiction(("datasets",), f"no dataset is of type {name}", f"Add one with `type: {name}`")
        elif len(found) > 1:
            yield Contradiction(
                ("datasets", found[1], "type"),
                f"{len(found)} datasets are of type {name}",
                "Keep exactly one of this type",
            )


def _category(dataset: Dataset, where: Path_) -> Iterator[Contradiction]:
    allowed = _CATEGORIES[type(dataset)]
    if dataset.category not in allowed:
        yield Contradiction(
            (*where, "category"),
            f"a dataset of type {dataset.type!r} cannot hold {dataset.category.value}",
            f"Write one of: {', '.join(allowed)}",
        )


def _children(dataset: Messages, catalog: Catalog, where: Path_) -> Iterator[Contradiction]:
    """A record takes its children with it, so no child may be the record, an account, or the de-identified form."""
    accounts = {item.table for item in catalog.datasets if isinstance(item, Accounts)}
    yield from _references(dataset.children, dataset.table, (*where, "children"))
    for index, child in enumerate(dataset.children):
        if child.table in accounts:
            yield Contradiction(
                (*where, "children", index, "table"),
                f"{child.table} holds accounts, which outlive their messages",
                "Remove it from 'children'",
            )
    tables = {item.table for item in catalog.datasets if not isinstance(item, Logs)}
    if dataset.research.table in tables | {child.table for child in dataset.children}:
        yield Contradiction(
            (*where, "research", "table"),
            f"{dataset.research.table} holds records with identifiers",
            "Name a table of its own for what is de-identified",
        )


def _references(children: tuple[Child, ...], own: str, where: Path_) -> Iterator[Contradiction]:
    seen: set[str] = set()
    for index, child in enumerate(children):
        if child.table == own:
            yield Contradiction(
                (*where, index, "table"), f"{child.table} refers to itself", "Name a table that refers to this one"
            )
        elif child.table in seen:
            yield Contradiction((*where, index, "table"), f"{child.table} is listed twice", "List each table once")
        seen.add(child.table)


def _accounts(dataset: Accounts, where: Path_) -> Iterator[Contradiction]:
    yield from _references(dataset.referenced_by, dataset.table, (*where, "referenced_by"))
    needed = sorted({dataset.key, dataset.tier, column_of(dataset.clock)} & set(dataset.personal))
    if needed:
        yield Contradiction(
            (*where, "personal"),
            f"{', '.join(needed)} would be nulled, but the row is found and judged by it",
            "Remove it from 'personal'",
        )


def _layouts(dataset: Messages, where: Path_) -> Iterator[Contradiction]:
    layouts = (
        ((*where, "objects", "partitioned"), dataset.objects.partitioned, False),
        ((*where, "quarantine", "prefix"), dataset.quarantine.prefix, True),
    )
    for place, layout, is_prefix in layouts:
        problem = _layout_problem(layout, is_prefix)
        if problem is not None:
            yield Contradiction(place, *problem)
            continue
        landing = dataset.objects.landing
        if place[-1] == "partitioned" and (layout.startswith(landing) or landing.startswith(layout.split("{", 1)[0])):
            yield Contradiction(
                place,
                f"partitioned keys cannot be told from those below the landing prefix {landing!r}",
                "Let it begin with text of its own, for example tier={tier}/date={date}/{record}.json",
            )


def _layout_problem(layout: str, is_prefix: bool) -> tuple[str, str] | None:
    names = _FIELD.findall(layout)
    allowed = ", ".join(f"{{{name}}}" for name in LAYOUT_NAMES)
    unknown = [name for name in names if name not in LAYOUT_NAMES]
    if unknown:
        return f"{{{unknown[0]}}} stands for nothing", f"Use {allowed}"
    if _LITERAL.fullmatch(_FIELD.sub("", layout)) is None:
        return "the layout holds a character that is not safe in a key", f"Use letters, digits, = . _ - / and {allowed}"
    for name in LAYOUT_NAMES:
        if names.count(name) != 1:
            count = "is missing" if name not in names else "stands there twice"
            return f"{{{name}}} {count}", "Write for example tier={tier}/date={date}/{record}.json"
    if names[-1] != "record" or is_prefix != layout.endswith("/"):
        ending = "{record}/" if is_prefix else "{record}.json"
        return "the record must come last", f"Let it end with {ending}"
    if any(part.count("{") > 1 for part in layout.split("/")):
        return "two names stand in one part of the path", "Separate them by '/'"
    return layout_path_problem(layout)


def _buckets(dataset: Messages, catalog: Catalog, where: Path_) -> Iterator[Contradiction]:
    """Emptying a partition must never reach the quarantine or the evidence."""
    if dataset.quarantine.bucket in (dataset.objects.bucket, catalog.evidence_bucket):
        yield Contradiction(
            (*where, "quarantine", "bucket"),
            f"bucket {dataset.quarantine.bucket!r} is used for other data too",
            "Give the quarantine a bucket of its own",
        )
    for index, other in enumerate(catalog.datasets):
        bucket = other.bucket if isinstance(other, Logs) else None
        if bucket is not None and bucket in (dataset.quarantine.bucket, catalog.evidence_bucket):
            yield Contradiction(
                ("datasets", index, "bucket"),
                f"bucket {bucket!r} is the quarantine's or the evidence's",
                "Keep logs in a bucket of their own",
            )
    research = dataset.research.bucket
    if research is not None and research in (
        dataset.objects.bucket,
        dataset.quarantine.bucket,
        catalog.evidence_bucket,
        *(other.bucket for other in catalog.logs),
    ):
        yield Contradiction(
            (*where, "research", "bucket"),
            f"bucket {research!r} holds records with identifiers, or the evidence",
            "Give research a bucket of its own",
        )
    if dataset.objects.bucket == catalog.evidence_bucket:
        yield Contradiction(
            ("evidence_bucket",),
            f"bucket {catalog.evidence_bucket!r} holds the objects of {dataset.id}",
            "Give the evidence a bucket of its own",
        )


def _record_columns(dataset: Records, where: Path_) -> Iterator[Contradiction]:
    if dataset.category is not Category.TRAINING_USE:
        return
    if dataset.ids != "uuid":
        yield Contradiction(
            (*where, "ids"),
            "training examples stand on messages and flags, whose ids are uuids",
            "Bind columns of type uuid, and leave out 'ids'",
        )
    for name in ("record", "basis"):
        if getattr(dataset, name) is None:
            yield Contradiction(
                (*where, name),
                f"training examples need {name!r}: what they come from and what allows them",
                f"Add it, for example `{name}: {'message_id' if name == 'record' else 'basis'}`",
            )


def _log_prefixes(catalog: Catalog) -> Iterator[Contradiction]:
    """Two datasets on one prefix would each rewrite what the other has read."""
    seen: list[Logs] = []
    for index, dataset in enumerate(catalog.datasets):
        if not isinstance(dataset, Logs):
            continue
        for other in seen:
            overlap = dataset.prefix.startswith(other.prefix) or other.prefix.startswith(dataset.prefix)
            if dataset.bucket == other.bucket and overlap:
                yield Contradiction(
                    ("datasets", index, "prefix"),
                    f"prefix {dataset.prefix!r} overlaps that of {other.id!r}",
                    "Let each prefix of a bucket belong to one dataset",
                )
        seen.append(dataset)
    messages = [dataset for dataset in catalog.datasets if isinstance(dataset, Messages)]
    for index, dataset in enumerate(catalog.datasets):
        if isinstance(dataset, Logs) and any(dataset.bucket == item.objects.bucket for item in messages):
            yield Contradiction(
                ("datasets", index, "bucket"),
                f"bucket {dataset.bucket!r} holds the objects of messages",
                "Keep logs in a bucket of their own",
            )


def _native_logs(catalog: Catalog) -> Iterator[Contradiction]:
    """S3 removes objects whole, and only reading them tells whose lines they hold."""
    for index, dataset in enumerate(catalog.datasets):
        if isinstance(dataset, Logs) and dataset.expire == "native":
            yield Contradiction(
                ("datasets", index, "expire"),
                f"an object of {dataset.id} holds lines of many accounts and tiers, and S3 would take those that a "
                "hold, a case or an agreement keeps",
                "Write expire: requests, or leave the key out; native is for the objects of messages",
            )
