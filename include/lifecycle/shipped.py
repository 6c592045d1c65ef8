"""Where the files that come with the package are: in a wheel below the package, in a checkout beside it."""

from __future__ import annotations

from pathlib import Path

SHIPPED_POLICY = "policies/retention.yaml"
SHIPPED_DATASETS = "datasets/reference_store.yaml"
SHIPPED_STORES = "stores/example.yaml"
_PACKAGE = Path(__file__).resolve().parent


def shipped(name: str) -> Path:
    """The path of a shipped file, given as it lies below ``include/``."""
    in_wheel = _PACKAGE / "shipped" / name
    return in_wheel if in_wheel.exists() else _PACKAGE.parent / name
