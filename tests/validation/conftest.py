"""A healthy world, and the auditor pointed at it."""

from __future__ import annotations

import pytest

from lifecycle.config import Configuration, load_configuration
from support.store import Store
from validation.healthy import Healthy, build


@pytest.fixture
def healthy(store: Store) -> Healthy:
    return build(store)


@pytest.fixture(scope="session")
def configuration() -> Configuration:
    return load_configuration()
