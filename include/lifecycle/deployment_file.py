"""The file of stores: parsed once into frozen objects, refused by file, line, field and remedy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from lifecycle.contradiction import Contradiction, refuse
from lifecycle.deployment import ALL, S3_ID
from lifecycle.policy.models import Frozen
from lifecycle.refusals import load_model
from lifecycle.shipped import SHIPPED_STORES, shipped

# Part of the names of DAGs, pools and assets; Airflow allows 250 characters, people read 31.
StoreName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,30}$", examples=["chat"])]
ConnectionId = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,99}$", examples=["lifecycle_postgres"])]
FileName = Annotated[str, Field(min_length=1)]


class StoreEntry(Frozen):
    """One store: which tables and buckets (``datasets``), under which policy, over which Airflow connections."""

    name: StoreName
    datasets: FileName
    policy: FileName | None = None
    postgres: ConnectionId
    s3: ConnectionId = S3_ID


class StoresFile(Frozen):
    """Every store of a deployment; ``policy`` is that of all stores that name none of their own."""

    version: Literal[1]
    policy: FileName | None = None
    stores: Annotated[tuple[StoreEntry, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _contradictions(self) -> StoresFile:
        refuse(_contradictions(self.stores))
        return self


def _contradictions(entries: Sequence[StoreEntry]) -> Iterator[Contradiction]:
    names: set[str] = set()
    databases: dict[str, str] = {}
    for index, entry in enumerate(entries):
        where = ("stores", index)
        if entry.name == ALL:
            yield Contradiction((*where, "name"), f"{ALL!r} stands for every store", "Give the store another name")
        if entry.name in names:
            yield Contradiction(
                (*where, "name"), f"store {entry.name!r} is listed twice", "Give each store a name of its own"
            )
        names.add(entry.name)
        if (other := databases.setdefault(entry.postgres, entry.name)) != entry.name:
            yield Contradiction(
                (*where, "postgres"),
                f"stores {other!r} and {entry.name!r} have the same connection, and each needs a database of its own",
                "Name another connection, or bind the tables of both in one dataset file",
            )


def read_stores(path: Path) -> StoresFile:
    """Read a file of stores.

    Raises:
        ConfigurationError: with every problem found.
    """
    try:
        found = path.stat()
    except OSError:
        return _read(path, None)
    return _read(path, (found.st_mtime_ns, found.st_size))


@lru_cache(maxsize=4)
def _read(path: Path, stamp: tuple[int, int] | None) -> StoresFile:
    return load_model(path, StoresFile, shipped(SHIPPED_STORES)).require()
