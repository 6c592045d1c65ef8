"""Spark on EMR Serverless, where it is configured: between a plan and its units, and never in their way.

Configured by the environment of whoever parses DAG files, since DAGs are made there:

    LIFECYCLE_EMR_APPLICATION   the id of the application
    LIFECYCLE_EMR_ROLE          the ARN of the job's role: reads the data, writes staging
    LIFECYCLE_EMR_ENTRY_POINT   s3://…/job.py, a copy of include/lifecycle/prepared/job.py
    LIFECYCLE_EMR_PARAMETERS    spark-submit's parameters, such as the archive with this package; may be left out
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from lifecycle.errors import ConfigurationError, Problem

_NAMES = {"application": "LIFECYCLE_EMR_APPLICATION", "role": "LIFECYCLE_EMR_ROLE"}
_ENTRY, _PARAMETERS = "LIFECYCLE_EMR_ENTRY_POINT", "LIFECYCLE_EMR_PARAMETERS"
# The connection of the job itself: its role's own credentials.
_OWN_CREDENTIALS = "aws://"


@dataclass(frozen=True)
class Cluster:
    """An EMR Serverless application that may prepare log objects."""

    application: str
    role: str
    entry_point: str
    parameters: str = ""

    def job_driver(self, place: str) -> dict[str, Any]:
        """What is submitted for one place that was exported."""
        variable = f"AIRFLOW_CONN_LIFECYCLE_S3={_OWN_CREDENTIALS}"
        settings = [f"--conf spark.executorEnv.{variable}", f"--conf spark.emr-serverless.driverEnv.{variable}"]
        return {
            "sparkSubmit": {
                "entryPoint": self.entry_point,
                "entryPointArguments": [place],
                "sparkSubmitParameters": " ".join([*settings, self.parameters]).strip(),
            }
        }


def configured(environment: Mapping[str, str] | None = None) -> Cluster | None:
    """The cluster that the environment names; None where it names none.

    Raises:
        ConfigurationError: it names a part of one only.
    """
    found = os.environ if environment is None else environment
    names = {**_NAMES, "entry_point": _ENTRY}
    told = {field: found.get(name, "").strip() for field, name in names.items()}
    if not any(told.values()):
        return None
    missing = [names[field] for field, value in told.items() if not value]
    if missing:
        raise ConfigurationError([Problem("environment", 0, name, "is not set", "Set it, or none") for name in missing])
    return Cluster(**told, parameters=found.get(_PARAMETERS, "").strip())


def job(cluster: Cluster, drivers: Any) -> Any:
    """One Airflow task per place, which waits without a worker's slot."""
    from airflow.providers.amazon.aws.operators.emr import EmrServerlessStartJobOperator

    return EmrServerlessStartJobOperator.partial(
        task_id="spark",
        application_id=cluster.application,
        execution_role_arn=cluster.role,
        name="lifecycle-prepare",
        deferrable=True,
        # What a second job finds done it leaves alone; what neither did is done by `expire`.
        retries=1,
        execution_timeout=timedelta(hours=3),
    ).expand(job_driver=drivers)
