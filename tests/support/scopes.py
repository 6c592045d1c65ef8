"""Runs of some scopes in this process: `lifecycle run`, without the scopes that a test needs not."""

from __future__ import annotations

from datetime import datetime

from lifecycle.cli.output import to_json
from lifecycle.orchestration.whole_run import run_scopes
from oracle.quick import unvalidated
from oracle.stores import Ran


def carry_out(as_of: datetime, *scopes: str, validated: bool = True) -> Ran:
    """Run scopes one after the other, on the store that the environment names."""
    if not validated:
        with unvalidated():
            return carry_out(as_of, *scopes)
    results = run_scopes(scopes or ("consumer",), as_of, lambda *_: None, requested_by="starter")
    document = {"scopes": {result.scope: result.as_dict() for result in results}}
    return Ran(0 if all(result.passed for result in results) else 1, to_json(document), "")
