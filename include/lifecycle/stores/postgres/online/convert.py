"""Carries a partitioning from phase to phase. Each phase ends in the transaction that does its last act.

A process that dies between two statements has either ended a phase or not begun its last transaction; the next one
goes on from `lifecycle.partitionings`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from lifecycle.errors import PreconditionError
from lifecycle.stores.postgres.online import state
from lifecycle.stores.postgres.online.filling import build_tree, copy_rows, install_mirror, verify
from lifecycle.stores.postgres.online.state import Partitioning, Phase
from lifecycle.stores.postgres.online.switch import switch, validate
from lifecycle.stores.postgres.online.work import Work

log = logging.getLogger(__name__)
_STEPS: dict[Phase, Callable[[Work, Partitioning], None]] = {
    Phase.BUILDING: build_tree,
    Phase.BUILT: install_mirror,
    Phase.MIRRORED: copy_rows,
    Phase.COPIED: verify,
    Phase.VERIFIED: switch,
}


def advance(work: Work, partitioning: Partitioning, *, upto: Phase = Phase.SWITCHED) -> Partitioning:
    """Go on from wherever it stands, until it has switched (or the phase asked for)."""
    if partitioning.phase in (Phase.FINISHING, Phase.REVERTING):
        raise PreconditionError(
            f"the partitioning of {partitioning.layout.table} is {partitioning.phase}; "
            f"go on with --{'finish' if partitioning.phase is Phase.FINISHING else 'revert'}"
        )
    while partitioning.phase in _STEPS and partitioning.phase is not upto:
        log.info("%s: %s", partitioning.layout.table, partitioning.phase)
        _STEPS[partitioning.phase](work, partitioning)
        partitioning = state.reload(work.conn, partitioning)
    if partitioning.phase is Phase.SWITCHED and upto is Phase.SWITCHED:
        validate(work, partitioning)
    return partitioning
