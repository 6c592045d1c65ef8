"""Finding partitions while other shards drop theirs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from lifecycle.config import load_configuration
from lifecycle.policy.models import Tier
from lifecycle.stores.postgres.partitions import partitions_of


class _Catalogue:
    """What PostgreSQL answers when a partition is dropped between two looks: its bound is NULL."""

    def execute(self, *_: object) -> Any:
        day = "FOR VALUES FROM ('2026-08-01 00:00:00+00') TO ('2026-08-02 00:00:00+00')"
        rows = [("app", "dropped", None), ("app", "messages_beta_default", "DEFAULT"), ("app", "messages_beta_1", day)]
        return SimpleNamespace(fetchall=lambda: rows)


def test_a_partition_that_another_shard_dropped_meanwhile_is_no_default_and_no_error() -> None:
    """A race that one cannot cause at will; parallel shards met it."""
    messages = load_configuration().catalog.messages
    found = partitions_of(_Catalogue(), messages, Tier.BETA)  # type: ignore[arg-type]
    assert [(leaf.name, leaf.is_default) for leaf in found] == [
        ("messages_beta_1", False),
        ("messages_beta_default", True),
    ]
