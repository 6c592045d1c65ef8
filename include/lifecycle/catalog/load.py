"""Reading a dataset file."""

from __future__ import annotations

from pathlib import Path

from lifecycle.catalog.models import Catalog
from lifecycle.refusals import Loaded, load_model
from lifecycle.shipped import SHIPPED_DATASETS, shipped


def read_catalog(path: Path) -> Loaded[Catalog]:
    """Read and check a dataset file; problems are in the result."""
    return load_model(path, Catalog, shipped(SHIPPED_DATASETS))


def load_catalog(path: Path) -> Catalog:
    """Read a dataset file.

    Raises:
        ConfigurationError: with every problem found, each with file, line, field and remedy.
    """
    return read_catalog(path).require()
