"""The tests of the Spark job run where pyspark is installed: `make test-spark`."""

from __future__ import annotations

from importlib.util import find_spec

from oracle.stores import servers
from prepared.conftest import planned

__all__ = ["planned", "servers"]

collect_ignore_glob = [] if find_spec("pyspark") else ["test_*.py"]
