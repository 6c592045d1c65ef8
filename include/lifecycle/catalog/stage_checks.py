"""What stages, children and second copies of ordinary tables must not be: a deciding column, a table bound twice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lifecycle.catalog.clocks import column_of
from lifecycle.catalog.stages import Copy, Descendant
from lifecycle.contradiction import Contradiction
from lifecycle.policy.models import Category
from lifecycle.yaml_source import Path_

if TYPE_CHECKING:
    from lifecycle.catalog.models import Catalog, Records


def stage_contradictions(catalog: Catalog) -> Iterator[Contradiction]:
    bound = {item.table: item.id for item in catalog.datasets if item.type != "logs"}
    for index, dataset in enumerate(catalog.datasets):
        if dataset.type != "table":
            continue
        where = ("datasets", index)
        yield from _stages(dataset, where)
        yield from _children(dataset, bound, where)
        yield from _orphans(dataset, where)
        for place, copies in _copies(dataset, where):
            yield from _copied(dataset, copies, bound, place)


def _stages(dataset: Records, where: Path_) -> Iterator[Contradiction]:
    decide = {
        *dataset.key_columns,
        dataset.subject,
        column_of(dataset.clock),
        dataset.tier,
        dataset.record,
        dataset.group,
        dataset.basis,
        *_told_by(dataset),
    }
    names: set[str] = set()
    columns: dict[str, str] = {}
    for number, stage in enumerate(dataset.stages):
        place = (*where, "stages", number)
        if stage.name in names:
            yield Contradiction((*place, "name"), f"stage {stage.name!r} is listed twice", "Give each its own name")
        names.add(stage.name)
        if stage.category in (Category.TRAINING_USE, Category.ACCOUNT_DATA, Category.RESEARCH, Category.FEEDBACK):
            yield Contradiction(
                (*place, "category"),
                f"a stage cannot hold {stage.category.value}",
                "Write prompts_and_outputs, safety_scores or usage_records",
            )
        elif stage.category is dataset.category:
            yield Contradiction(
                (*place, "category"),
                f"the rows themselves are {stage.category.value} too, so this stage would end with them",
                "Give the stage or the dataset another category, or remove the stage",
            )
        for each in stage.clear:
            if each.column in decide:
                yield Contradiction(
                    (*place, "clear"),
                    f"{each.column} would be emptied, but the row is found and judged by it",
                    "Remove it from 'clear'",
                )
            if each.column in columns:
                yield Contradiction(
                    (*place, "clear"),
                    f"{each.column} is already emptied by stage {columns[each.column]!r}",
                    "Let each column belong to one stage",
                )
            columns.setdefault(each.column, stage.name)


def _told_by(dataset: Records) -> tuple[str, ...]:
    """The column of the row that tells its tier, where rows are of several."""
    tiers = dataset.tiers
    if tiers is None:
        return ()
    return (tiers.column if tiers.table is None else tiers.by or dataset.subject,)


def _children(dataset: Records, bound: dict[str, str], where: Path_) -> Iterator[Contradiction]:
    seen: set[str] = set()
    for place, child, deep in _walk(dataset.children, (*where, "children"), deep=False):
        if child.table in bound:
            yield Contradiction(
                (*place, "table"),
                f"{child.table} is dataset {bound[child.table]!r}, which has a rule of its own",
                "Remove it from 'children'",
            )
        elif child.table in seen:
            yield Contradiction((*place, "table"), f"{child.table} is listed twice", "List each table once")
        seen.add(child.table)
        several = not deep and len(dataset.key_columns) > 1 and child.parent_key is None
        if several:
            yield Contradiction(
                place,
                f"the key of {dataset.id} is {len(dataset.key_columns)} columns, and nothing says to which of its"
                f" columns {child.table} refers",
                f"Add `parent_key: <a unique column of {dataset.table}>`",
            )
        if deep and child.parent_key is None:
            yield Contradiction(
                place,
                f"{child.table} is a child of a child, and nothing says which of its columns it refers to",
                "Add `parent_key: <a column of the table above it>`",
            )


def _orphans(dataset: Records, where: Path_) -> Iterator[Contradiction]:
    """Each is a dataset of its own in plans and ledger, so its name is its own; and its clock needs a period to end."""
    names = {stage.name for stage in dataset.stages}
    for place, child, _ in _walk(dataset.children, (*where, "children"), deep=False):
        if child.orphans is None:
            continue
        if child.orphans.name in names:
            yield Contradiction(
                (*place, "orphans", "name"),
                f"{child.orphans.name!r} is already the name of a stage or of other orphans",
                "Give each its own name",
            )
        names.add(child.orphans.name)
        if dataset.category in (Category.TRAINING_USE, Category.FEEDBACK):
            yield Contradiction(
                (*place, "orphans"),
                f"{dataset.category.value} ends with what it is based on, which an orphan has lost",
                "Remove 'orphans': they are counted, and the check names them",
            )


def _walk(children: tuple[Descendant, ...], where: Path_, *, deep: bool) -> Iterator[tuple[Path_, Descendant, bool]]:
    for number, child in enumerate(children):
        yield (*where, number), child, deep
        yield from _walk(child.children, (*where, number, "children"), deep=True)


def _copies(dataset: Records, where: Path_) -> Iterator[tuple[Path_, tuple[Copy, ...]]]:
    yield (*where, "copies"), dataset.copies
    for number, stage in enumerate(dataset.stages):
        yield (*where, "stages", number, "copies"), stage.copies


def _copied(dataset: Records, copies: tuple[Copy, ...], bound: dict[str, str], where: Path_) -> Iterator[Contradiction]:
    if copies and len(dataset.key_columns) > 1:
        yield Contradiction(
            where,
            f"the key of {dataset.id} is {len(dataset.key_columns)} columns, and a copy is found by one",
            "Remove the copies, or give the dataset a key of one column",
        )
    for number, each in enumerate(copies):
        if each.table == dataset.table:
            yield Contradiction(
                (*where, number, "table"), "this is the table itself", "Empty the column by a stage's 'clear'"
            )
        elif each.key == each.column:
            yield Contradiction(
                (*where, number, "column"), f"{each.column} is also the key", "Name the column that holds the content"
            )
