"""Reading a policy file."""

from __future__ import annotations

from pathlib import Path

from lifecycle.policy.models import Policy
from lifecycle.refusals import Loaded, load_model
from lifecycle.shipped import SHIPPED_POLICY, shipped


def read_policy(path: Path) -> Loaded[Policy]:
    """Read and check a policy file; problems are in the result."""
    return load_model(path, Policy, shipped(SHIPPED_POLICY))


def load_policy(path: Path) -> Policy:
    """Read a policy file.

    Raises:
        ConfigurationError: with every problem found, each with file, line, field and remedy.
    """
    return read_policy(path).require()
