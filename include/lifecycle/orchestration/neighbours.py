"""Stores of one deployment do not touch each other's data: a database belongs to one, and so does a bucket."""

from __future__ import annotations

import logging

from lifecycle.catalog.load import read_catalog
from lifecycle.catalog.models import Catalog
from lifecycle.connections import s3_place
from lifecycle.deployment import Store, current_store, stores, using
from lifecycle.errors import ConfigurationError, PreconditionError
from lifecycle.stores.postgres.connect import Connection
from lifecycle.stores.postgres.identity import claim

log = logging.getLogger(__name__)


class SharedBucketError(PreconditionError):
    """Two stores name one bucket: what one does not know it would take for an orphan of its own. Nothing was done."""

    def __init__(self, store: str, other: str, buckets: set[str]) -> None:
        self.store, self.other, self.buckets = store, other, frozenset(buckets)
        super().__init__(
            f"stores {store!r} and {other!r} name the same bucket(s) of the same S3: {', '.join(sorted(buckets))}. "
            "Give each store buckets of its own in its dataset file"
        )


def refuse_shared(conn: Connection, catalog: Catalog) -> None:
    """Claim the database for the current store and compare its buckets with the others'.

    Raises:
        WrongStoreError, SharedBucketError: see there.
    """
    store = current_store()
    if not store.declared:
        return
    claim(conn, store.name)
    own, place = buckets_of(catalog), s3_place()
    for other in stores():
        if other.name == store.name:
            continue
        shared = own & _buckets_at(other, place)
        if shared:
            raise SharedBucketError(store.name, other.name, shared)


def buckets_of(catalog: Catalog) -> set[str]:
    """Every bucket that a dataset file names."""
    found = {catalog.evidence_bucket, *(logs.bucket for logs in catalog.logs)}
    if catalog.has_messages:
        messages = catalog.messages
        found |= {messages.objects.bucket, messages.quarantine.bucket}
    return found


def _buckets_at(store: Store, place: str) -> set[str]:
    """Another store's buckets, if they are at the same place. What is wrong with it is its own business."""
    try:
        with using(store.name):
            if s3_place() != place or store.datasets is None:
                return set()
        catalog = read_catalog(store.datasets).value
    except ConfigurationError:
        log.warning("store %s cannot be compared with: its connection cannot be read", store.name)
        return set()
    return buckets_of(catalog) if catalog is not None else set()
