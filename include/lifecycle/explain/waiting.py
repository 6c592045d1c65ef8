"""What waits for somebody's yes, told beside an explanation: the policy decides, and a run does not act on it yet."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from datetime import UTC
from typing import Any

from lifecycle.config import Configuration
from lifecycle.ledger import approvals
from lifecycle.orchestration.approval import Known, key_of, recall
from lifecycle.stores.postgres.connect import Connection
from lifecycle.stores.postgres.guard import guard_of

Explain = Callable[[Configuration], dict[str, Any]]


def what_waits(
    conn: Connection, config: Configuration, kind: str, found: dict[str, Any], explain: Explain
) -> list[str]:
    """Sentences about unanswered approvals that concern what was asked about; none where nothing waits.

    Args:
        found: the explanation by the loaded configuration.
        explain: explains the same thing by another one.
    """
    if not approvals.kept(conn):
        return []
    return [*_configuration(conn, config, kind, found, explain), *_plans(conn, _units(config, kind, found))]


def _configuration(
    conn: Connection, config: Configuration, kind: str, found: dict[str, Any], explain: Explain
) -> Iterator[str]:
    force = approvals.in_force(conn)
    if force is None or force == key_of(config):
        return
    known = recall(conn, force)
    head = f"Configuration {key_of(config).short} is not approved"
    dataset = _dataset(config, kind, found)
    if known is None or dataset in guard_of(conn, config.catalog, known.policy, known.catalog).waiting:
        yield f"{head}, and binds this dataset differently from the one in force: until then runs leave it alone."
    elif "deciding_rule" not in found:
        yield f"{head}: until then runs do only what the one in force decides alike."
    else:
        yield from _difference(head, found, explain(_by(config, known)))


def _by(config: Configuration, known: Known) -> Configuration:
    """The loaded bindings with the rules in force."""
    return replace(config, policy=known.policy, policy_hash=known.key.policy_hash)


def _difference(head: str, found: dict[str, Any], before: dict[str, Any]) -> Iterator[str]:
    if (before["disposition"], before["due"]) != (found["disposition"], found["due"]):
        then = _fate(before)
        yield (
            f"{head}, and the one in force decides otherwise: {then} (rule {before['deciding_rule']})."
            " Until somebody says yes or no, it is kept as it is."
        )


def _fate(found: dict[str, Any]) -> str:
    if found["due"]:
        return f"{found['disposition']} now"
    return "keep" if found["deadline"] is None else f"keep until {found['deadline'].astimezone(UTC):%Y-%m-%d}"


def _dataset(config: Configuration, kind: str, found: dict[str, Any]) -> str:
    if kind == "partition":
        name = str(found["partition"]).partition("/")[0]
        return config.catalog.messages.id if name == "quarantine" else name
    if "dataset" in found:
        return str(found["dataset"])
    return config.catalog.messages.id


def _units(config: Configuration, kind: str, found: dict[str, Any]) -> tuple[str, ...]:
    """The units of a plan that a thing can belong to: a message's day may have been merged into its month or year."""
    if kind == "partition":
        return (str(found["partition"]),)
    if kind == "record":
        day = f"{found['clock'].astimezone(UTC):%Y-%m-%d}" if found.get("clock") else ""
        spans = dict.fromkeys((day, day[:7], day[:4])) if day else ()
        return (str(found["dataset"]), *(f"{found['dataset']}/{span}" for span in spans))
    if kind != "message" or "clock" not in found:
        return ()
    place = "quarantine" if found["location"] == "quarantine" else config.catalog.messages.id
    day = f"{found['clock'].astimezone(UTC):%Y-%m-%d}"
    return tuple(f"{place}/{found['tier']}/{span}" for span in (day, day[:7], day[:4]))


def _plans(conn: Connection, units: Collection[str]) -> Iterator[str]:
    for asked in approvals.waiting(conn, approvals.PLAN):
        by = f", at the latest {asked.deadline.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if asked.deadline else ""
        for unit in (name for name in units if name in asked.units):
            yield (
                f"What run {asked.run_id} would destroy of partition {unit} is over a limit and waits for approval"
                f" {asked.approval_id}{by}: `lifecycle plan approve {asked.run_id}` lets it go."
            )
