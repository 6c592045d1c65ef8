"""Where every dataset of every tier stands at an instant: `lifecycle status`, the console, the metrics, the alarm."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lifecycle.catalog.models import Catalog, Dataset, Logs, Messages, Records
from lifecycle.dispositions.context import ERASURE_SCOPE, RECORDS_SCOPE, RunContext
from lifecycle.ledger.runs import last_success
from lifecycle.planning.cutoffs import cutoff_of
from lifecycle.planning.risk import ALL_TIERS, Late, LogDay, Standing, earliest, log_days
from lifecycle.policy.decide import horizon
from lifecycle.policy.models import Policy, Tier, Trigger
from lifecycle.stores.postgres.candidates import Source, of_messages, of_quarantine, of_records, own_rule
from lifecycle.stores.postgres.connect import Connection
from lifecycle.stores.postgres.standing import measure, measure_late, waiting

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

QUARANTINE = "quarantine"
SCOPES: tuple[str, ...] = (*(tier.value for tier in Tier), RECORDS_SCOPE)


def standings(
    conn: Connection,
    s3: S3Client,
    policy: Policy,
    catalog: Catalog,
    as_of: datetime,
    scopes: Collection[str] = SCOPES,
) -> tuple[Standing, ...]:
    """Every dataset and tier of some scopes. Reads bounds, indexes, exceptions and names of days."""
    found: list[Standing] = []
    for scope in scopes:
        if scope == ERASURE_SCOPE:
            continue  # what is asked for is part of each dataset's standing
        found.extend(_tables(conn, policy, catalog, scope, as_of))
        if scope == RECORDS_SCOPE:
            last = last_success(conn, scope, as_of)
            found.extend(_logs(s3, policy, dataset, as_of, last) for dataset in catalog.log_records)
    return tuple(sorted(found, key=_place(catalog)))


def late_records(context: RunContext) -> dict[str, int]:
    """Records of the run's scope that are past their deadline, by why; what was only due is not among them."""
    conn, as_of, scope = context.conn, context.run.as_of, context.run.scope
    if scope == ERASURE_SCOPE:
        return {}
    last, waits = last_success(conn, scope, as_of), waiting(conn, scope, as_of)
    total = Late()
    for dataset, source in sources(context.policy, context.catalog, scope):
        late = measure_late(conn, source, as_of, last)
        total += late.of_which_waiting(waits.get((dataset, _of_unit(source.tier_name)), 0))
    return {name: count for name, count in total.as_dict().items() if name != "kept"}


def _tables(conn: Connection, policy: Policy, catalog: Catalog, scope: str, as_of: datetime) -> Iterator[Standing]:
    """Every table of a scope; what waits for an approval is told apart from what is simply late."""
    last, waits = last_success(conn, scope, as_of), waiting(conn, scope, as_of)
    for dataset, source in sources(policy, catalog, scope):
        found = measure(conn, source, dataset, scope, as_of, last)
        waits_here = waits.get((dataset, _of_unit(found.tier)), 0)
        yield replace(found, late=found.late.of_which_waiting(waits_here))


def _of_unit(tier: str) -> str | None:
    """The tier as plans write it: none where a unit is of no single declared one."""
    return tier if tier in set(Tier) else None


def _place(catalog: Catalog) -> Callable[[Standing], tuple[int, int, str]]:
    """Messages, quarantine, then the others as the dataset file lists them; tiers in their usual order."""
    listed = sorted(catalog.datasets, key=lambda each: not isinstance(each, Messages))
    order = [name for each in listed for name in _names_of(each)]
    tiers = [tier.value for tier in Tier]

    def place(standing: Standing) -> tuple[int, int, str]:
        tier = tiers.index(standing.tier) if standing.tier in tiers else len(tiers)
        return order.index(standing.dataset), tier, standing.tier

    return place


def _names_of(dataset: Dataset) -> tuple[str, ...]:
    """A dataset with what stands beside it: messages with the quarantine, the rows of a table after their stages."""
    if isinstance(dataset, Messages):
        return (dataset.id, QUARANTINE)
    if isinstance(dataset, Logs):
        return (dataset.id, *(part.id for part in dataset.parts))
    if not isinstance(dataset, Records):
        return (dataset.id,)
    return tuple(each.id for each in dataset.unfolded)


def sources(policy: Policy, catalog: Catalog, scope: str) -> Iterator[tuple[str, Source]]:
    """The tables of a scope, each with the name of its dataset (or ``quarantine``)."""
    if scope != RECORDS_SCOPE:
        if not catalog.has_messages:
            return
        tier = Tier(scope)
        yield catalog.messages.id, of_messages(policy, catalog, tier)
        flag = policy.rule_for(Trigger.FLAG, catalog.messages.category, tier)
        if flag is not None and flag.period is not None:
            yield QUARANTINE, of_quarantine(policy, catalog, tier, flag)
        return
    if catalog.has_messages:
        yield catalog.messages.id, of_messages(policy, catalog, None)
    for dataset in catalog.row_by_row:
        rule = own_rule(policy, dataset)
        if rule is not None:
            yield dataset.id, of_records(policy, catalog, dataset, rule)


def _logs(s3: S3Client, policy: Policy, dataset: Logs, as_of: datetime, last: datetime | None) -> Standing:
    """Objects of many records, from the names of their days; objects are counted, lines are not read."""
    from lifecycle.stores.s3.days import count_keys, day_prefixes

    prefixes = dict(day_prefixes(s3, dataset.bucket, dataset.prefix))
    days = log_days(policy, dataset.category, prefixes, last)
    due = [day for day in days if day.strikes < horizon(policy, as_of)]
    overdue = [day for day in due if day.strikes < as_of]

    def objects(of: list[LogDay]) -> int:
        return sum(count_keys(s3, dataset.bucket, prefixes[day.day]) for day in of)

    rule, first = policy.strictest(dataset.category), min(prefixes, default=None)
    return Standing(
        dataset=dataset.id,
        tier=ALL_TIERS,
        scope=RECORDS_SCOPE,
        rule=rule.id,
        period=rule.period,
        oldest=datetime(first.year, first.month, first.day, tzinfo=UTC) if first is not None else None,
        cutoff=cutoff_of(policy, rule, as_of),
        at_risk=earliest(day.strikes for day in days),
        due=objects(due),
        late=Late(overdue=objects(overdue)),
        last_success=last,
        counted="objects",
    )
