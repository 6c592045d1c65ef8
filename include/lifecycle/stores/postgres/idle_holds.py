"""Open holds that can keep nothing, because what they name is no dataset of the file, or no id as its tables have them.

Whoever placed one believes that something is kept: a run says how many there are, ``lifecycle hold list --idle`` which.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from uuid import UUID

from lifecycle.catalog.models import Catalog, Logs, Records
from lifecycle.catalog.stages import all_of
from lifecycle.stores.postgres.connect import Connection

log = logging.getLogger(__name__)
_IDLE = (
    "SELECT x.hold_id FROM lifecycle.legal_holds x WHERE x.released_at IS NULL AND CASE x.scope"
    " WHEN 'dataset' THEN btrim(x.target) <> ALL (%(names)s) ELSE %(uuids)s AND"
    " lower(btrim(x.target)) !~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' END ORDER BY x.placed_at, x.hold_id"
)


def idle_holds(conn: Connection, catalog: Catalog) -> list[UUID]:
    """Ids of open holds that name nothing that there could be, oldest first."""
    ids = {getattr(each, "ids", "uuid") for each in (*catalog.datasets, *catalog.records)}
    params = {"names": sorted(set(_names(catalog))), "uuids": ids == {"uuid"}}
    return [hold for (hold,) in conn.execute(_IDLE, params).fetchall()]


def warn_of_idle_holds(conn: Connection, catalog: Catalog) -> None:
    """Say at planning time how many holds keep nothing."""
    found = idle_holds(conn, catalog)
    if found:
        log.error(
            "%d open hold(s) keep nothing: they name no dataset of the file, or no id as its tables have them."
            " `lifecycle hold list --idle` shows them: place each anew by `lifecycle hold place`, which checks names,"
            " and release the old one",
            len(found),
        )


def _names(catalog: Catalog) -> Iterator[str]:
    """Everything by which a hold on a dataset may name it, or a child of one."""
    for dataset in catalog.datasets:
        yield dataset.id
        yield dataset.bucket if isinstance(dataset, Logs) else dataset.table
        if isinstance(dataset, Records):
            yield from (child.table for child in all_of(dataset.children))
            yield from (copy.table for part in (*dataset.parts, dataset) for copy in part.copies)
    if catalog.has_messages:
        yield from (child.table for child in catalog.messages.children)
    for part in catalog.records:
        yield from part.names
    for lines in catalog.log_records:
        yield from lines.names
