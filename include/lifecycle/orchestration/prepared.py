"""The step between plan and expire that hands a run's log objects to a cluster, where the dataset file says so."""

from __future__ import annotations

from typing import Any

from lifecycle.config import load_configuration
from lifecycle.dispositions.prepared import export
from lifecycle.orchestration.session import run_context


def export_prepared(run_id: int) -> dict[str, Any]:
    """Write inputs and objects of a planned run to staging. Returns how many objects, and the places for the job.

    Nothing for a dry run, for a dataset without `prepared`, and while a configuration waits for its approval.
    """
    with run_context(run_id) as context:
        if context.run.dry_run:
            return {"objects": 0, "places": []}
        return export(context, load_configuration().policy_path)
