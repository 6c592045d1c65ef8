"""An Airflow home of its own, named before anything imports Airflow."""

from __future__ import annotations

import os
import tempfile

os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="lifecycle-test-airflow-"))
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
