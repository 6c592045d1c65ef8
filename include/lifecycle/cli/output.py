"""What commands print: results on stdout, progress on stderr."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, date, datetime
from enum import Enum
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from pydantic import BaseModel

from lifecycle.policy.periods import Period

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_PLAIN_INTERVAL_S = 5.0
# Where the JSON results of one store among several go, to be printed as one document.
_collected: ContextVar[list[Any] | None] = ContextVar("collected_results", default=None)


def instant(moment: datetime) -> str:
    """ISO 8601 in UTC with ``Z``; fractions only where there are any.

    Raises:
        ValueError: the moment has no time zone.
    """
    if moment.tzinfo is None:
        raise ValueError("a time without a zone is no instant")
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def jsonable(value: Any) -> Any:
    """A value as JSON has it. Refuses what has no agreed form, so that nothing is printed by accident."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Enum):
        return jsonable(value.value)
    if isinstance(value, str):
        return value
    if isinstance(value, datetime):
        return instant(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, UUID | PurePath | Period):
        return str(value)
    if isinstance(value, BaseModel):
        return jsonable({name: getattr(value, name) for name in type(value).model_fields})
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: jsonable(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(jsonable(key)): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        items = [jsonable(item) for item in value]
        return sorted(items, key=str) if isinstance(value, set | frozenset) else items
    raise TypeError(f"{type(value).__name__} has no JSON form")


def to_json(data: Any) -> str:
    """Stable JSON: sorted keys, two spaces, no escapes for text that is not ASCII."""
    return json.dumps(jsonable(data), sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)


def emit(data: Any, json_mode: bool, table_renderer: Callable[[Any], RenderableType]) -> None:
    """Print a result: JSON, or what ``table_renderer`` makes of the data (a rich table, or text)."""
    collected = _collected.get()
    if json_mode and collected is not None:
        collected.append(jsonable(data))
    elif json_mode:
        sys.stdout.write(to_json(data) + "\n")
    else:
        stdout_console().print(table_renderer(data))


@contextmanager
def collecting(into: list[Any] | None) -> Iterator[None]:
    """Keep JSON results instead of printing them; None prints."""
    token = _collected.set(into)
    try:
        yield
    finally:
        _collected.reset(token)


def stdout_console() -> Console:
    """For people. Not a terminal: wide, so that a pipe or a log gets whole lines."""
    from rich.console import Console

    return Console(file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else 160)


def say(message: str) -> None:
    """A line about what is going on, on stderr."""
    sys.stderr.write(message + "\n")
    sys.stderr.flush()


class Advance(Protocol):
    def __call__(self, steps: int = 1, /, note: str = "") -> None:
        """Report that many more steps done; ``note`` names what is being worked on (a partition, never a record)."""


@contextmanager
def progress(title: str, total: int | None = None) -> Iterator[Advance]:
    """A progress bar on a terminal, now and then a plain line otherwise."""
    if sys.stderr.isatty():
        with _bar(title, total) as advance:
            yield advance
    else:
        lines = _PlainProgress(title, total)
        yield lines
        lines.finish()


@contextmanager
def _bar(title: str, total: int | None) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as bars:
        task = bars.add_task(title, total=total, note="")

        def advance(steps: int = 1, /, note: str = "") -> None:
            bars.update(task, advance=steps, note=note)

        yield advance


class _PlainProgress:
    """One line at the start, one at most every five seconds, one at the end."""

    def __init__(self, title: str, total: int | None) -> None:
        self._title, self._total, self._done = title, total, 0
        self._started = self._said = time.monotonic()
        say(f"{title} ...")

    def __call__(self, steps: int = 1, /, note: str = "") -> None:
        self._done += steps
        if time.monotonic() - self._said >= _PLAIN_INTERVAL_S:
            self._said = time.monotonic()
            of = f" of {self._total:,}" if self._total is not None else ""
            say(f"{self._title}: {self._done:,}{of}{' (' + note + ')' if note else ''}")

    def finish(self) -> None:
        say(f"{self._title}: {self._done:,} done in {time.monotonic() - self._started:.1f} s")
