"""Which store the console looks at, and which others there are."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Switch:
    """The store that is shown, and all by name; both empty in a deployment without a file of stores."""

    shown: str = ""
    names: tuple[str, ...] = ()

    @property
    def query(self) -> str:
        """What links within the page carry. Names of stores need no quoting (deployment_file.py)."""
        return f"?store={self.shown}" if self.shown else ""


ONE_STORE = Switch()
