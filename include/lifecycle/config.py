"""The configuration of a run: one policy and one dataset file, with the hashes that go into its evidence."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path

from lifecycle.catalog.load import read_catalog
from lifecycle.catalog.log_parts import too_long
from lifecycle.catalog.models import Catalog, Logs, Records
from lifecycle.deployment import current_store
from lifecycle.errors import ConfigurationError, Problem
from lifecycle.policy.load import read_policy
from lifecycle.policy.models import Category, Policy, Tier, Trigger
from lifecycle.refusals import Loaded
from lifecycle.shipped import SHIPPED_DATASETS, SHIPPED_POLICY, shipped
from lifecycle.yaml_source import Path_, show

POLICY_VARIABLE, DATASETS_VARIABLE = "LIFECYCLE_POLICY", "LIFECYCLE_DATASETS"


@dataclass(frozen=True)
class Configuration:
    """Policy and catalog, both sound and fitting together. The hashes are SHA-256, hex, of the files' bytes."""

    policy: Policy
    policy_hash: str
    catalog: Catalog
    catalog_hash: str
    policy_path: Path
    catalog_path: Path


def load_configuration(policy: Path | None = None, datasets: Path | None = None) -> Configuration:
    """Read both files: as given, else those of the current store (lifecycle/deployment.py), else as LIFECYCLE_POLICY
    and LIFECYCLE_DATASETS say, else the shipped ones.

    Raises:
        ConfigurationError: with every problem of both files.
    """
    if policy is None or datasets is None:
        store = current_store()
        policy, datasets = policy or store.policy, datasets or store.datasets
    policy_path = policy or _path(POLICY_VARIABLE, SHIPPED_POLICY)
    catalog_path = datasets or _path(DATASETS_VARIABLE, SHIPPED_DATASETS)
    return _load(policy_path, catalog_path, _stamp(policy_path), _stamp(catalog_path))


def _stamp(path: Path) -> tuple[int, int] | None:
    """What changes when a file changes; None for one that cannot be read, which the reader then explains."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


@lru_cache(maxsize=64)
def _load(policy_path: Path, catalog_path: Path, *stamps: tuple[int, int] | None) -> Configuration:
    """Parse both files once per state of them: a run asks for them at each of its steps."""
    read_rules, read_bindings = read_policy(policy_path), read_catalog(catalog_path)
    problems = [*read_rules.problems, *read_bindings.problems]
    if read_rules.value is None or read_bindings.value is None:
        raise ConfigurationError(problems)
    uncovered = _uncovered(read_rules.value, read_bindings)
    if uncovered:
        raise ConfigurationError(uncovered)
    return Configuration(
        policy=read_rules.value,
        policy_hash=read_rules.source.sha256,
        catalog=read_bindings.value,
        catalog_hash=read_bindings.source.sha256,
        policy_path=policy_path,
        catalog_path=catalog_path,
    )


def _path(variable: str, name: str) -> Path:
    given = os.environ.get(variable, "")
    return Path(given) if given else shipped(name)


def _uncovered(policy: Policy, bindings: Loaded[Catalog]) -> list[Problem]:
    """Datasets whose category has no rule that ends it: their data would stay for ever without anybody noticing."""
    found: list[tuple[Path_, str, str]] = []
    catalog = bindings.require()
    for index, dataset in enumerate(catalog.datasets):
        where: Path_ = ("datasets", index)
        held = [(where, dataset.category)]
        if isinstance(dataset, Records):
            held += [((*where, "stages", number), stage.category) for number, stage in enumerate(dataset.stages)]
            found += ((place, *problem) for place, problem in _cannot_move(policy, catalog, dataset, held))
        if isinstance(dataset, Logs):
            held += [((*where, "stages", number), stage.category) for number, stage in enumerate(dataset.stages)]
            found += too_long(policy, dataset, where)
        for place, category in held:
            trigger = Trigger.CONSENT if category is Category.FEEDBACK else Trigger.DEFAULT
            if not all(policy.rule_for(trigger, category, tier) for tier in Tier):
                found.append(
                    (
                        (*place, "category"),
                        f"the policy has no rule of trigger {trigger.value!r} for {category.value!r} of every tier",
                        "Add such a rule to the policy, or correct the category",
                    )
                )
    source = bindings.source
    return [Problem(source.file, source.line(place), show(place), message, remedy) for place, message, remedy in found]


def _cannot_move(
    policy: Policy, catalog: Catalog, dataset: Records, held: list[tuple[Path_, Category]]
) -> Iterator[tuple[Path_, tuple[str, str]]]:
    """Prompts of a tier whose rules put them into quarantine, or de-identify them: neither is done to an ordinary
    table."""
    tiers = dataset.tiers.tiers if dataset.tiers is not None else (dataset.tier_is or Tier.CONSUMER,)
    for (place, category), tier in product(held, tiers):
        if category is not Category.PROMPTS_AND_OUTPUTS:
            continue
        flag = policy.rule_for(Trigger.FLAG, category, tier)
        if flag is not None and dataset.record is not None and catalog.exceptions.flags is not None:
            yield (
                (*place, "category"),
                (
                    f"rule {flag.id} puts flagged {category.value} of tier {tier.value} into quarantine, and only a"
                    " partitioned_table has one",
                    "Bind them as a partitioned_table, or leave out 'record' if flags do not name these rows",
                ),
            )
        rule = policy.rule_for(Trigger.DEFAULT, category, tier)
        variant = policy.variant_of(rule, tier) if rule is not None else None
        if variant is not None:
            yield (
                (*place, "category"),
                (
                    f"rule {variant.id} de-identifies {category.value} of tier {tier.value} instead of deleting, and"
                    " only a partitioned_table has a research table",
                    f"Bind them as a partitioned_table, or correct {'tier_is' if dataset.tiers is None else 'tiers'!r}",
                ),
            )
