"""Names that PostgreSQL and S3 take, or that would reach what is not the product's: what no pattern says clearly."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import BaseModel

from lifecycle.contradiction import Contradiction
from lifecycle.policy.models import Tier
from lifecycle.yaml_source import Path_

if TYPE_CHECKING:
    from lifecycle.catalog.models import Catalog

# A key has at most 1,024 bytes; a layout leaves room for tier, date and record.
MAX_LAYOUT = 512
OWN_SCHEMA = "lifecycle"
# The project's own table that may keep an account: the quarantine index refers to it.
_OWN_KEEPER = "lifecycle.quarantine"
_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+")
# Units of a plan are named after datasets, tiers and these (docs/auditors.md).
_RESERVED_IDS = frozenset({*(tier.value for tier in Tier), "landing", "quarantine", "orphans", "records", "erasure"})


def name_contradictions(catalog: Catalog) -> Iterator[Contradiction]:
    for index, dataset in enumerate(catalog.datasets):
        if dataset.id in _RESERVED_IDS:
            yield Contradiction(
                ("datasets", index, "id"),
                f"dataset id {dataset.id!r} is the name of something else in plans and reports",
                "Give it another id",
            )
    for where, name, value in _named(catalog, ()):
        problem = _PROBLEMS[name](where, value) if name in _PROBLEMS else None
        if problem is not None:
            yield Contradiction(where, *problem)


def _named(value: object, path: Path_) -> Iterator[tuple[Path_, str, str]]:
    """Every text of the catalog, with its path and the name of its field."""
    if isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _named(item, (*path, index))
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            item = getattr(value, name)
            if isinstance(item, str):
                yield (*path, name), name, item
            else:
                yield from _named(item, (*path, name))


def _table(where: Path_, name: str) -> tuple[str, str] | None:
    schema = name.split(".", 1)[0].lower()
    if "exclusions" in where:
        return None
    if schema.startswith("pg_") or schema == "information_schema":
        return f"{name} belongs to PostgreSQL itself", "Name a table of the product"
    if schema == OWN_SCHEMA and not (name == _OWN_KEEPER and "referenced_by" in where):
        return f"{name} belongs to this project, which keeps its records there", "Name a table of the product"
    return None


def _bucket(where: Path_, name: str) -> tuple[str, str] | None:
    if ".." in name or ".-" in name or "-." in name or _ADDRESS.fullmatch(name):
        return (
            f"{name!r} is not a bucket name: no two dots, no dot beside a hyphen, and not an address",
            "Write the bucket's true name",
        )
    return None


def _prefix(where: Path_, prefix: str) -> tuple[str, str] | None:
    parts = prefix.split("/")
    if "." in parts or ".." in parts:
        return f"{prefix!r} has a part '.' or '..', which no key of the store begins with", "Write the whole prefix"
    return None


_PROBLEMS = {"table": _table, "bucket": _bucket, "evidence_bucket": _bucket, "landing": _prefix}


def layout_path_problem(layout: str) -> tuple[str, str] | None:
    """What is wrong with a layout as a path."""
    parts = layout.removesuffix("/").split("/")
    if "." in parts or ".." in parts or "" in parts:
        return "a part of the path is empty, '.' or '..'", "Write for example tier={tier}/date={date}/{record}.json"
    if len(layout) > MAX_LAYOUT:
        return f"the layout is longer than {MAX_LAYOUT} characters", "Shorten it: a key has at most 1,024 bytes"
    return None
