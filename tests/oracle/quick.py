"""The command line without Great Expectations: tests that judge the stores themselves need not pay for its judgement.

The validations have tests of their own, and the tests here that run a whole world let them judge it too. Everything
else of the run is the product as it is.

    python -m oracle.quick run --as-of 2025-06-15T12:00:00Z
    python -m oracle.quick --only records run --as-of 2025-06-15T12:00:00Z
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest.mock import patch


def _nothing_to_say(run_id: int) -> dict[str, Any]:
    return {"validated": 0}


@contextmanager
def unvalidated() -> Iterator[None]:
    """Runs in this process end without their validations."""
    with patch("lifecycle.orchestration.steps.validate", _nothing_to_say):
        yield


@contextmanager
def only(scope: str | None) -> Iterator[None]:
    """Runs in this process are of one scope, as a DAG's are; None for all of them."""
    with patch("lifecycle.orchestration.whole_run.SCOPES", (scope,)) if scope else nullcontext():
        yield


def main() -> None:
    from lifecycle.cli.main import app

    scope = None
    if sys.argv[1:2] == ["--only"]:
        _, scope = sys.argv.pop(1), sys.argv.pop(1)
    with unvalidated(), only(scope):
        app()


if __name__ == "__main__":
    main()
