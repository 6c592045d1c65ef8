"""What must hold where the rows of an ordinary table are of several tiers: each row's tier is known as long as it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lifecycle.catalog.stages import all_of
from lifecycle.catalog.tiers import UNKNOWN, Tiers
from lifecycle.contradiction import Contradiction
from lifecycle.policy.models import Category, Tier
from lifecycle.yaml_source import Path_

if TYPE_CHECKING:
    from lifecycle.catalog.models import Catalog, Records


def tier_contradictions(catalog: Catalog) -> Iterator[Contradiction]:
    for index, dataset in enumerate(catalog.datasets):
        if dataset.type != "table":
            continue
        where = ("datasets", index)
        yield from _told(dataset, where)
        if dataset.tiers is not None:
            yield from _differ(dataset, where)
            yield from _names(dataset, where)
            yield from _looked_up(dataset, dataset.tiers, (*where, "tiers"))
            yield from _stays_known(catalog, dataset, dataset.tiers, (*where, "tiers", "table"))


def _told(dataset: Records, where: Path_) -> Iterator[Contradiction]:
    """Rules for prompts and outputs differ by tier, so it must be known whose they are."""
    categories = {dataset.category, *(stage.category for stage in dataset.stages)}
    if dataset.tiers is not None and dataset.tier_is is not None:
        yield Contradiction(
            (*where, "tier_is"),
            f"all rows are of tier {dataset.tier_is.value}, and 'tiers' says that each has its own",
            "Remove one of the two",
        )
    elif Category.PROMPTS_AND_OUTPUTS in categories and dataset.tier_is is None and dataset.tiers is None:
        yield Contradiction(
            (*where, "tier_is"),
            "rules for prompts_and_outputs differ by tier, and nothing says of which tier these rows are",
            "Add it, for example `tier_is: business`; where rows are of several tiers add what tells each row's,"
            " for example `tiers: {column: tier}`",
        )


def _differ(dataset: Records, where: Path_) -> Iterator[Contradiction]:
    if Category.PROMPTS_AND_OUTPUTS not in {dataset.category, *(stage.category for stage in dataset.stages)}:
        yield Contradiction(
            (*where, "tiers"),
            f"the rules for {dataset.category.value} are the same for every tier",
            "Remove 'tiers'",
        )
    if dataset.category is Category.PROMPTS_AND_OUTPUTS and any(
        child.orphans is not None for child in all_of(dataset.children)
    ):
        yield Contradiction(
            (*where, "tiers"),
            "the row that told the tier of an orphan is gone, so nobody could say by which rule it goes",
            "Remove 'orphans' from the children: they are counted, and the check names them",
        )


def _names(dataset: Records, where: Path_) -> Iterator[Contradiction]:
    """`chats.business` is the share of a tier, in plans and ledger."""
    for number, stage in enumerate(dataset.stages):
        if stage.name in {*(tier.value for tier in Tier), UNKNOWN}:
            yield Contradiction(
                (*where, "stages", number, "name"),
                f"{dataset.id}.{stage.name} is what the rows of that tier are called",
                "Give the stage another name",
            )


def _looked_up(dataset: Records, tiers: Tiers, where: Path_) -> Iterator[Contradiction]:
    if tiers.table is None:
        for name in ("key", "by"):
            if getattr(tiers, name) is not None:
                yield Contradiction(
                    (*where, name), "without 'table' the tier is in a column of the row itself", f"Remove {name!r}"
                )
        return
    if tiers.key is None:
        yield Contradiction(
            (*where, "key"),
            f"nothing says by which column a row of {tiers.table} is found",
            "Add it: the column of a unique key, for example `key: account_id`",
        )
    if tiers.table == dataset.table:
        yield Contradiction(
            (*where, "table"), f"{tiers.table} is the table itself", "Leave 'table', 'key' and 'by' out"
        )


def _stays_known(catalog: Catalog, dataset: Records, tiers: Tiers, where: Path_) -> Iterator[Contradiction]:
    """What tells the tier must not go before the rows, or they would be of no known tier: the strictest rule's."""
    if tiers.table is None:
        return
    gone = {child.table for each in catalog.tables for child in all_of(each.children)}
    if catalog.has_messages:
        gone |= {child.table for child in catalog.messages.children}
    gone |= {each.table for each in catalog.tables if each.table != dataset.table}
    if tiers.table in gone:
        yield Contradiction(
            where,
            f"rows of {tiers.table} are disposed of by this file, and rows of {dataset.table} would lose their tier",
            "Name a table whose rows stay, or keep the tier in a column of the row itself",
        )
    by = tiers.by or dataset.subject
    accounts = catalog.accounts if catalog.has_accounts else None
    if accounts is None or tiers.table != accounts.table:
        return
    if (dataset.table, by) not in {(child.table, child.key) for child in accounts.referenced_by}:
        yield Contradiction(
            where,
            f"an account's row goes when nothing refers to it, and nothing says that rows of {dataset.table} do",
            f"Add `- {{table: {dataset.table}, key: {by}}}` to 'referenced_by' of {accounts.id}",
        )
    if tiers.column in accounts.personal:
        yield Contradiction(
            where,
            f"{tiers.column} is emptied with the personal columns of {accounts.id}",
            f"Remove it from 'personal' of {accounts.id}, or name another column",
        )
