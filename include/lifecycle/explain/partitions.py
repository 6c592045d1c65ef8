"""A partition explained: how many of its records share a fate, the earliest deadline, and what keeps survivors."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from lifecycle.catalog.models import Logs, Records
from lifecycle.config import Configuration
from lifecycle.explain.groups import as_rows, kept_by_exception, merged, records, sentences
from lifecycle.explain.lead import lead_sentence, lead_terms
from lifecycle.explain.objects import explain_log_objects
from lifecycle.explain.records import ABSENT, dataset_of, shares_of
from lifecycle.explain.sentences import day
from lifecycle.planning.risk import earliest
from lifecycle.planning.spans import span_of
from lifecycle.policy.models import Tier
from lifecycle.stores.postgres.connect import Connection
from lifecycle.stores.postgres.explained import (
    Group,
    day_start,
    message_groups,
    quarantine_groups,
    record_groups,
)
from lifecycle.stores.postgres.tree import (
    UnsupportedPartitioningError,
    partitions_of,
    time_tree,
    unclassified_label,
    unclassified_partitions,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

FORMS = (
    "messages/<tier>/<YYYY-MM-DD> (or <YYYY-MM>, <YYYY>, <from>..<to>: the partition's span), messages/<tier>/default,"
    " messages/unclassified, quarantine/<tier>/<YYYY-MM-DD>,"
    " <logs>/<YYYY-MM-DD>, the id of a table's dataset, or <table>/<YYYY-MM-DD> for a partition of one"
)
_SPAN = re.compile(r"default|all|(\d{4}(-\d{2}(-\d{2})?)?|[0-9T:Z.-]*\.\.[0-9T:Z.-]*)(-default)?")


class NoSuchPartitionError(ValueError):
    """The name is not one of a unit; the message says what names look like."""

    def __init__(self) -> None:
        super().__init__(f"no such partition; write {FORMS}")


def explain_partition(
    conn: Connection, s3: S3Client, config: Configuration, name: str, as_of: datetime
) -> dict[str, Any]:
    """A unit by its name, as plans and the ledger write it.

    Raises:
        NoSuchPartitionError: it is no name of a unit.
    """
    head = {"kind": "partition", "partition": name, "as_of": as_of, "lead": lead_terms(config.policy.lead)}
    dataset, _, rest = name.partition("/")
    logs = next((each for each in config.catalog.log_records if each.id == dataset), None)
    if logs is not None:
        return head | _log_day(conn, s3, config, logs, _day(rest), as_of)
    found = _groups(conn, config, dataset, rest, as_of)
    if not found:
        return head | {"location": ABSENT, "fates": [], "text": "There is no such partition, or nothing is in it."}
    return head | {"location": "app", **_told(found, config, name)}


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise NoSuchPartitionError from None


def _tier(text: str) -> Tier:
    try:
        return Tier(text)
    except ValueError:
        raise NoSuchPartitionError from None


def _groups(conn: Connection, config: Configuration, dataset: str, rest: str, as_of: datetime) -> list[Group]:
    policy, catalog = config.policy, config.catalog
    ordinary = dataset_of(config, dataset)
    if ordinary is not None and not rest:
        shares = shares_of(config, ordinary) or (ordinary,)
        return merged(group for each in shares for group in record_groups(conn, policy, catalog, each, as_of))
    if isinstance(ordinary, Records):
        return _of_table(conn, config, ordinary, rest, as_of)
    if not catalog.has_messages:
        raise NoSuchPartitionError
    if dataset == catalog.messages.id and rest.split("/", 1)[0] == "unclassified":
        others = {unclassified_label(leaf): leaf for leaf in unclassified_partitions(conn, catalog.messages)}
        if rest not in others:
            return []
        return message_groups(conn, policy, catalog, None, as_of, source=others[rest].identifier)
    tier_name, _, label = rest.partition("/")
    if dataset == "quarantine":
        start = day_start(_day(label))
        return quarantine_groups(conn, policy, catalog, _tier(tier_name), as_of, day=start)
    if dataset != catalog.messages.id:
        raise NoSuchPartitionError
    tier = _tier(tier_name)
    if not _SPAN.fullmatch(label):
        raise NoSuchPartitionError
    leaves = partitions_of(conn, catalog.messages, tier, within=span_of(label))
    leaf = next((leaf for leaf in leaves if leaf.label == label), None)
    if leaf is None:
        return []
    return message_groups(conn, policy, catalog, tier, as_of, source=leaf.identifier)


def _of_table(conn: Connection, config: Configuration, dataset: Records, label: str, as_of: datetime) -> list[Group]:
    """One partition of an ordinary table that time alone divides."""
    if not _SPAN.fullmatch(label):
        raise NoSuchPartitionError
    try:
        tree = time_tree(conn, dataset, within=span_of(label))
    except UnsupportedPartitioningError:
        return []
    leaf = next((leaf for leaf in tree.leaves() if leaf.label == label), None) if tree is not None else None
    if leaf is None:
        return []
    found = shares_of(config, dataset) or (dataset,)
    return merged(
        group
        for each in found
        for group in record_groups(conn, config.policy, config.catalog, each, as_of, source=leaf.identifier)
    )


def _told(found: Sequence[Group], config: Configuration, name: str) -> dict[str, Any]:
    total = sum(group.records for group in found)
    first = earliest(group.first for group in found)
    survivors = kept_by_exception(found, config.policy)
    lines = [f"Partition {name} holds {records(total)}.", *sentences(found, config.policy)]
    if first is not None:
        lines.append(f"The earliest deadline in it is {day(first)}.")
    if survivors:
        kept = ", ".join(f"{group.records:,} by {group.rule}" for group in survivors)
        lines.append(f"An exception decides about {records(sum(g.records for g in survivors))}: {kept}.")
        lines.append("They survive when the rest of the partition goes, and go by their own rule.")
    lines.append(lead_sentence(config.policy.lead))
    return {
        "records": total,
        "earliest_deadline": first,
        "fates": as_rows(found),
        "survivors": {group.rule: group.records for group in survivors},
        "text": "\n".join(lines),
    }


def _log_day(
    conn: Connection, s3: S3Client, config: Configuration, dataset: Logs, of: date, as_of: datetime
) -> dict[str, Any]:
    prefix = f"{dataset.prefix}date={of.isoformat()}/"
    return explain_log_objects(conn, s3, config, dataset, prefix, of, as_of)
