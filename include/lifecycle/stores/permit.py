"""What a destructive request needs: leave to make it, asked for directly before each one (hard cases 4, 27)."""

from __future__ import annotations

from typing import Protocol


class Permit(Protocol):
    """Given by dispositions/gate.py while holds and exceptions are locked against change."""

    def check(self) -> None:
        """Confirm that this worker may still destroy.

        Raises:
            FencedOutError: a newer try of the same unit has taken over.
        """
