"""Reading ahead: the next items are made by a thread while the present one is worked on."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, cast

_Item = TypeVar("_Item")
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
