"""Stages of many-record objects as datasets of their own, and what they must not be."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from lifecycle.catalog.models import Catalog, Logs
from lifecycle.catalog.stages import LogPart, LogStage
from lifecycle.contradiction import Contradiction
from lifecycle.policy.models import Category, Policy, Tier, Trigger
from lifecycle.yaml_source import Path_

_MAY_HOLD = (Category.PROMPTS_AND_OUTPUTS, Category.USAGE_RECORDS)


class StagedLogs(Logs):
    """One stage of the records of objects: what goes is content, in fields that are set to null. In no file."""

    id: str
    part: LogPart

    @property
    def names(self) -> tuple[str, ...]:
        return (self.id, self.part.of)

    @property
    def binding(self) -> str:
        return self.part.of

    @property
    def clear(self) -> tuple[str, ...]:
        return self.part.clear


def parts_of_logs(dataset: Logs) -> tuple[StagedLogs, ...]:
    """Each stage of a dataset as one of its own."""
    return tuple(_part(dataset, stage) for stage in dataset.stages)


def _part(dataset: Logs, stage: LogStage) -> StagedLogs:
    own = {name: getattr(dataset, name) for name in Logs.model_fields}
    # What a cluster prepares is whole records that go, so stages are carried out here.
    changed = {"stages": (), "prepared": None, "category": stage.category, "id": f"{dataset.id}.{stage.name}"}
    return StagedLogs(**(own | changed), part=LogPart(of=dataset.id, name=stage.name, clear=stage.clear))


def log_stage_contradictions(catalog: Catalog) -> Iterator[Contradiction]:
    """A field that decides, one that is emptied twice, two stages of one name, a stage that ends with its records."""
    for index, dataset in enumerate(catalog.datasets):
        if isinstance(dataset, Logs):
            yield from _stages(dataset, ("datasets", index))


def _stages(dataset: Logs, where: Path_) -> Iterator[Contradiction]:
    decide = (dataset.record, dataset.subject, dataset.tier, dataset.clock)
    names: set[str] = set()
    taken: dict[str, str] = {}
    for number, stage in enumerate(dataset.stages):
        place = (*where, "stages", number)
        if stage.name in names:
            yield Contradiction((*place, "name"), f"stage {stage.name!r} is listed twice", "Give each its own name")
        names.add(stage.name)
        if stage.category not in _MAY_HOLD:
            yield Contradiction(
                (*place, "category"),
                f"a stage cannot hold {stage.category.value}",
                f"Write one of: {', '.join(_MAY_HOLD)}",
            )
        elif stage.category is dataset.category:
            yield Contradiction(
                (*place, "category"),
                f"the records themselves are {stage.category.value} too, so this stage would end with them",
                "Give the stage or the dataset another category, or remove the stage",
            )
        for field in stage.clear:
            if any(_within(field, name) for name in decide):
                yield Contradiction(
                    (*place, "clear"),
                    f"{field} would be emptied, but the record is found and judged by it",
                    "Remove it from 'clear'",
                )
            other = next((name for name in taken if _within(field, name) or _within(name, field)), None)
            if other is not None:
                yield Contradiction(
                    (*place, "clear"),
                    f"{field} is already emptied as {other} by stage {taken[other]!r}",
                    "Let each field belong to one stage, once",
                )
            taken.setdefault(field, stage.name)


def _within(field: str, other: str) -> bool:
    return field == other or field.startswith(f"{other}.")


def too_long(policy: Policy, dataset: Logs, where: Path_) -> Iterator[tuple[Path_, str, str]]:
    """Stages whose rule lets content stay as long as its record, or longer: they would never do anything."""
    for number, stage in enumerate(dataset.stages):
        for tier in Tier:
            content = policy.rule_for(Trigger.DEFAULT, stage.category, tier)
            record = policy.rule_for(Trigger.DEFAULT, dataset.category, tier)
            if content is None or record is None or content.period is None or record.period is None:
                continue
            if content.period.longest() >= record.period.shortest() > timedelta(0):
                yield (
                    (*where, "stages", number, "category"),
                    f"rule {content.id} keeps the content of tier {tier.value} for {content.period}, and rule"
                    f" {record.id} the record itself for {record.period}",
                    "Let the stage have the category with the shorter period, or remove the stage",
                )
                break
