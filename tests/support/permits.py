"""Permits and S3 clients that misbehave on purpose, at a chosen request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lifecycle.errors import FencedOutError


class Killed(BaseException):
    """Stands for the process ending here: nothing of ours catches it."""


class CountingPermit:
    """Counts how often it is asked; ``at[n]`` is called when it is asked for the n-th time (1 is the first)."""

    def __init__(self, at: dict[int, Callable[[], object]] | None = None) -> None:
        self.checks = 0
        self._at = at or {}

    def check(self) -> None:
        self.checks += 1
        if (act := self._at.get(self.checks)) is not None:
            act()


def fenced_out() -> None:
    raise FencedOutError("unit", 1)


def killed() -> None:
    raise Killed


class Altered:
    """A client of which some operations are replaced; each replacement gets the real one first."""

    def __init__(self, client: Any, **replacements: Callable[..., Any]) -> None:
        self._client, self._replacements = client, replacements

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._client, name)
        changed = self._replacements.get(name)
        if changed is None:
            return real
        return lambda *args, **kwargs: changed(real, *args, **kwargs)


def altered(client: Any, **replacements: Callable[..., Any]) -> Any:
    """A client with some operations replaced: ``altered(s3, delete_objects=lambda real, **kwargs: ...)``."""
    return Altered(client, **replacements)
