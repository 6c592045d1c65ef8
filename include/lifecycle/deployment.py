"""The stores that one deployment serves: each a database with its own schema ``lifecycle``, dataset file and S3.

Without a file of stores (LIFECYCLE_STORES) there is one, undeclared, with the names that always were: nothing of this
module shows. Every DAG file imports it, so it imports nothing but the standard library until there is such a file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lifecycle.errors import ConfigurationError, Problem

if TYPE_CHECKING:
    from lifecycle.deployment_file import StoresFile

STORES_VARIABLE, STORE_VARIABLE = "LIFECYCLE_STORES", "LIFECYCLE_STORE"
# The name of the store whose DAGs, pools and assets keep the names that a deployment with a single store has.
DEFAULT = "default"
# What `--store` takes for all of them.
ALL = "all"
POSTGRES_ID, S3_ID = "lifecycle_postgres", "lifecycle_s3"
_PREFIX = "retention"

_chosen: ContextVar[str | None] = ContextVar("lifecycle_store", default=None)


@dataclass(frozen=True)
class Store:
    """One store. ``policy`` and ``datasets`` are None where the environment or the shipped files say."""

    name: str = DEFAULT
    policy: Path | None = None
    datasets: Path | None = None
    postgres: str = POSTGRES_ID
    s3: str = S3_ID
    declared: bool = False

    @property
    def told(self) -> dict[str, str]:
        """What a task of this store is told; nothing where there is no file of stores."""
        return {"store": self.name} if self.declared else {}

    @property
    def tags(self) -> set[str]:
        """What the DAGs of this store carry beside their own tags."""
        return {f"store:{self.name}"} if self.declared else set()

    def named(self, what: str) -> str:
        """A DAG, a pool or an asset of this store: ``retention_consumer``, or ``retention_chat_consumer``."""
        own = "" if self.name == DEFAULT else f"{self.name}_"
        return f"{_PREFIX}_{own}{what}"

    def titled(self, title: str) -> str:
        """A title for people."""
        return title if self.name == DEFAULT else f"{title} ({self.name})"

    def pool(self, usual: str) -> str:
        """This store's pool in the place of the usual one, so that one store's backlog takes no slot of another's."""
        return self.named(usual.removeprefix(f"{_PREFIX}_"))


def stores() -> tuple[Store, ...]:
    """Every store of the deployment, in the order of the file.

    Raises:
        ConfigurationError: the file cannot be used, with every problem of it.
    """
    path = os.environ.get(STORES_VARIABLE, "")
    if not path:
        return (Store(),)
    from lifecycle.deployment_file import read_stores

    return _of_file(read_stores(Path(path)), Path(path))


def _of_file(found: StoresFile, path: Path) -> tuple[Store, ...]:
    """Paths in the file are relative to its folder, so that it can be moved with what it names."""
    folder = path.resolve().parent
    return tuple(
        Store(
            name=each.name,
            policy=folder / own if (own := each.policy or found.policy) is not None else None,
            datasets=folder / each.datasets,
            postgres=each.postgres,
            s3=each.s3,
            declared=True,
        )
        for each in found.stores
    )


def store_named(name: str) -> Store:
    """A store by its name.

    Raises:
        ConfigurationError: there is none; its message names those that there are.
    """
    known = stores()
    for store in known:
        if store.name == name:
            return store
    if not known[0].declared:
        raise _refused(
            f"store {name!r} is asked for, but {STORES_VARIABLE} names no file of stores",
            f"Set {STORES_VARIABLE} where this runs, or leave the store out",
        )
    raise _refused(f"there is no store {name!r}", f"Write one of: {_names(known)}")


def current_store() -> Store:
    """The store that is worked on: chosen by `using`, else by LIFECYCLE_STORE, else the only one there is.

    Raises:
        ConfigurationError: there are several and none is chosen, or the chosen one is unknown.
    """
    name = _chosen.get() or os.environ.get(STORE_VARIABLE, "")
    if name:
        return store_named(name)
    known = stores()
    if len(known) > 1:
        raise _refused(f"this deployment has {len(known)} stores", f"Choose with --store one of: {_names(known)}")
    return known[0]


def _names(known: tuple[Store, ...]) -> str:
    return ", ".join(store.name for store in known)


@contextmanager
def using(name: str | None) -> Iterator[None]:
    """Work on a store by its name; None leaves the choice as it is. Threads of others keep theirs."""
    if name is None:
        yield
        return
    token = _chosen.set(name)
    try:
        yield
    finally:
        _chosen.reset(token)


def _refused(message: str, remedy: str) -> ConfigurationError:
    return ConfigurationError([Problem("environment", 0, STORE_VARIABLE, message, remedy)])
