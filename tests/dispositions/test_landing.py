"""Landing objects on their way to their day: what it costs, and what is told of them when a listing fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from lifecycle.orchestration import steps
from lifecycle.orchestration.session import shared_s3_client
from support.store import Store

pytestmark = pytest.mark.timeout(120)
AS_OF = datetime(2026, 11, 1, tzinfo=UTC)
DATA = "product-data"
MESSAGES = 24


@contextmanager
def noted(refuse: Any = lambda request: False) -> Iterator[Counter[tuple[str, str]]]:
    """Operations of the run's client, by name and by the prefix or key that they ask for."""
    seen: Counter[tuple[str, str]] = Counter()

    def note(params: Any, model: Any, **_: Any) -> None:
        seen[model.name, params.get("Prefix", params.get("Key", ""))] += 1
        if refuse(params):
            raise ClientError({"Error": {"Code": "AccessDenied"}}, model.name)

    events = shared_s3_client().meta.events
    events.register("before-parameter-build.s3", note, unique_id="landing")
    try:
        yield seen
    finally:
        events.unregister("before-parameter-build.s3", unique_id="landing")


def landed(store: Store, count: int = MESSAGES) -> None:
    for _ in range(count):
        store.insert_message(received_at=AS_OF - timedelta(days=2), object_body="hello")


def moved() -> int:
    return steps.partition(steps.begin("consumer", AS_OF, run_key="landing"))["moved"]


def test_the_versions_of_a_batch_are_listed_together(store: Store) -> None:
    """What stands in landing is listed once for all of them, not once for each."""
    landed(store)
    with noted() as seen:
        assert moved() == MESSAGES
    # Before the copies, for destroying the sources, and to see that nothing came meanwhile.
    assert sum(count for (name, at), count in seen.items() if name == "ListObjectVersions") <= 4
    assert store.keys(DATA, "landing/") == []


def test_where_a_batch_cannot_be_listed_together_each_key_is_asked_for(store: Store) -> None:
    """A refusal of one listing fails nothing that can be done without it."""
    landed(store, 5)
    struck: list[str] = []

    def shared(params: Any) -> bool:
        if params.get("Prefix") == "landing/" and not struck:
            struck.append("once")
            return True
        return False

    with noted(shared):
        assert moved() == 5
    assert struck
    assert store.keys(DATA, "landing/") == []
