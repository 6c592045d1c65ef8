"""Reading ahead, and working side by side: threads make the next items while the present one is used."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar, cast

_Item = TypeVar("_Item")
_Made = TypeVar("_Made")
_END = object()


def ahead(items: Iterator[_Item], depth: int = 2) -> Iterator[_Item]:
    """The same items in the same order, up to ``depth`` of them made before they are asked for.

    What making one raises is raised where it would have been yielded.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        pending = deque(pool.submit(next, items, _END) for _ in range(depth))
        try:
            while (item := pending.popleft().result()) is not _END:
                pending.append(pool.submit(next, items, _END))
                yield cast(_Item, item)
        finally:
            for future in pending:
                future.cancel()


def beside_each_other(
    make: Callable[[_Item], _Made], items: Iterator[_Item], size_of: Callable[[_Item], int], most: int, room: int
) -> Iterator[_Made]:
    """What ``make`` makes of each item, in their order, up to ``most`` at once and of at most ``room`` together.

    An item that is larger than ``room`` is made by itself. Items are asked for in the caller's thread. What ``make``
    raises is raised where its result would have been.
    """
    pending: deque[tuple[Future[_Made], int]] = deque()
    held = 0
    with ThreadPoolExecutor(most, thread_name_prefix="beside") as pool:
        try:
            for item in items:
                size = size_of(item)
                while pending and (len(pending) >= most or held + size > room):
                    made, freed = pending.popleft()
                    held -= freed
                    yield made.result()
                pending.append((pool.submit(make, item), size))
                held += size
            while pending:
                yield pending.popleft()[0].result()
        finally:
            for future, _ in pending:
                future.cancel()


def side_by_side(make: Callable[[_Item], _Made], items: Iterator[_Item]) -> Iterator[_Made]:
    """What ``make`` makes of each item, in their order, by as many threads as there are processors, up to four.

    One item more is held than there are threads. What ``make`` raises is raised where its result would have been.
    """
    workers = min(4, os.cpu_count() or 1)
    pending: deque[Future[_Made]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="side") as pool:
        try:
            for item in items:
                pending.append(pool.submit(make, item))
                if len(pending) > workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
