"""Runs of several workers on one PostgreSQL, each of which is to see it as if it were alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from lifecycle.planning.pacing import Reading


@contextmanager
def undisturbed_by_neighbours() -> Iterator[None]:
    """The pacer is not told of pressure that other workers' tests make.

    Every CREATE and DROP DATABASE forces a checkpoint, after which a run that has taken out a hundred rows rests; and
    the next comes before the rest is over, so that it waits until its patience ends, which is a minute. What it does
    under pressure is told by tests with readings of their own (dispositions/test_batching.py, planning/test_pacing.py).
    """
    from lifecycle.dispositions import pacer
    from lifecycle.stores.postgres import pressure

    def calm(*args: Any) -> Reading:
        return replace(pressure.read(*args), canary=0.0, wal=None, checkpoints=None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pacer, "read", calm)
        yield
