"""A world of log lines whose dataset lets a cluster prepare them, planned; each test has a store of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from conftest import DATASETS
from dispositions.test_logs import log_world
from lifecycle.dispositions import logs
from lifecycle.dispositions.prepared import adopt
from lifecycle.orchestration import steps
from lifecycle.orchestration.prepared import export_prepared
from lifecycle.stores.s3.logs import RewriteResult
from oracle.named import AS_OF
from oracle.stores import Servers, servers
from support.store import Store

__all__ = ["servers"]

STAGING, PREFIX = "research", "staging/"


@dataclass
class Planned:
    """A planned run, where it was exported to, and what was adopted when it was carried out."""

    store: Store
    run: int
    place: str
    adopted: list[RewriteResult | None]

    @property
    def prefix(self) -> str:
        return self.place.removeprefix(f"s3://{STAGING}/")

    def expire(self) -> None:
        for shard in steps.shards(self.run):
            if shard.startswith("request_logs"):
                steps.expire_shard(self.run, shard)


@pytest.fixture
def planned(servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Planned]:
    datasets = yaml.safe_load(DATASETS.read_text(encoding="utf-8"))
    dataset = next(each for each in datasets["datasets"] if each["type"] == "logs")
    dataset["prepared"] = {"bucket": STAGING, "prefix": PREFIX}
    path = tmp_path / "datasets.yaml"
    path.write_text(yaml.safe_dump(datasets), encoding="utf-8")
    with servers.store(log_world()) as store:
        for name, value in {**store.env, "LIFECYCLE_DATASETS": str(path)}.items():
            monkeypatch.setenv(name, value)
        run = steps.begin("records", AS_OF)
        steps.plan(run)
        exported = export_prepared(run)
        (place,) = exported["places"]
        adopted: list[RewriteResult | None] = []
        monkeypatch.setattr(logs, "adopt", _recorded(adopt, adopted))
        yield Planned(store, run, place, adopted)


def _recorded(
    real: Callable[..., RewriteResult | None], into: list[RewriteResult | None]
) -> Callable[..., RewriteResult | None]:
    def recorded(*args: object) -> RewriteResult | None:
        into.append(real(*args))
        return into[-1]

    return recorded
