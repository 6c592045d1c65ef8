"""Edits that make a shipped configuration file wrong in one way, and the one problem each must give."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Malformed:
    """Replace the first ``old`` by ``new``. The problem must name the line of ``at``, else the last line of ``new``."""

    name: str
    old: str
    new: str
    field: str
    says: str
    remedy: str
    at: str | None = None

    def apply(self, text: str) -> tuple[str, int]:
        """The malformed text, and the line that its problem must name."""
        before, found, after = text.partition(self.old)
        assert found, f"the shipped file no longer has {self.old!r}"
        changed = before + self.new + after
        end = len(before + self.new.rstrip("\n")) if self.at is None else changed.index(self.at)
        return changed, changed.count("\n", 0, end) + 1
