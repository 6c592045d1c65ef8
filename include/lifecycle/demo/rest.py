"""A small client of Airflow's REST API, on the standard library."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlencode
from urllib.request import Request, urlopen

from lifecycle.errors import LifecycleError

REQUEST_TIMEOUT_S = 30.0
FINISHED = frozenset({"success", "failed"})


class RestError(LifecycleError):
    """Airflow refused a request; `status` is the HTTP status."""

    def __init__(self, method: str, path: str, status: int, detail: str) -> None:
        self.status = status
        super().__init__(f"{method} {path}: HTTP {status}: {detail[:500]}")


class NotInTimeError(LifecycleError):
    """Something in Airflow did not happen in the time allowed for it."""


class AirflowRest:
    """Logged in at construction; every method raises RestError when Airflow refuses."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self.url = url.rstrip("/")
        self._token = ""
        answer = self.call("POST", "/auth/token", {"username": user, "password": password})
        self._token = str(answer["access_token"])

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """One request; the parsed answer, or None when it is empty."""
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        try:
            request = Request(f"{self.url}{path}", data=data, headers=headers, method=method)
            with urlopen(request, timeout=REQUEST_TIMEOUT_S) as response:
                answer = response.read()
        except HTTPError as error:
            detail = error.read().decode(errors="replace")
            raise RestError(method, path, error.code, detail) from None
        return json.loads(answer) if answer else None

    def dag_ids(self) -> set[str]:
        """The DAGs that Airflow has parsed."""
        return {str(dag["dag_id"]) for dag in self._pages("/api/v2/dags", "dags")}

    def import_errors(self) -> list[str]:
        """File names of DAG files that could not be imported."""
        return [str(error["filename"]) for error in self._pages("/api/v2/importErrors", "import_errors")]

    def wait_for_dags(self, wanted: set[str], timeout_s: float) -> None:
        """Until all DAGs of `wanted` are parsed.

        Raises:
            NotInTimeError: naming those that are not.
        """
        self._until(
            lambda: wanted <= self.dag_ids(), timeout_s, lambda: f"DAGs not parsed: {sorted(wanted - self.dag_ids())}"
        )

    def import_pools(self, pools_file: Path) -> None:
        """Create or update the pools of a `pools.json`, as `airflow pools import` does."""
        known = {str(pool["name"]) for pool in self._pages("/api/v2/pools", "pools")}
        for name, pool in json.loads(pools_file.read_text(encoding="utf-8")).items():
            if name in known:
                self.call("PATCH", f"/api/v2/pools/{quote(name)}", {"pool": name, **pool})
            else:
                self.call("POST", "/api/v2/pools", {"name": name, **pool})

    def set_paused(self, dag_id: str, paused: bool) -> None:
        """Pause or unpause a DAG."""
        self.call("PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": paused})

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None, *, logical_date: str | None = None) -> str:
        """Start a run; its id. Without a logical date unless one is given."""
        body = {"logical_date": logical_date, "conf": dict(conf or {})}
        return str(self.call("POST", f"/api/v2/dags/{dag_id}/dagRuns", body)["dag_run_id"])

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """A DAG run as Airflow describes it."""
        found: dict[str, Any] = self.call("GET", f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id)}")
        return found

    def wait(self, dag_id: str, run_id: str, timeout_s: float) -> str:
        """Until the run has finished; 'success' or 'failed'.

        Raises:
            NotInTimeError: it has not, after `timeout_s` seconds.
        """
        self._until(
            lambda: self.run(dag_id, run_id)["state"] in FINISHED,
            timeout_s,
            lambda: f"{dag_id} {run_id} is still {self.run(dag_id, run_id)['state']}",
        )
        return str(self.run(dag_id, run_id)["state"])

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """All task instances of a run, mapped ones included."""
        return self._pages(f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances", "task_instances")

    def clear(self, dag_id: str, run_id: str, task_ids: list[str], *, downstream: bool = True) -> int:
        """Clear tasks, finished ones too, so that they run again; how many instances."""
        body = {
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": task_ids,
            "include_downstream": downstream,
            "only_failed": False,
            "reset_dag_runs": True,
        }
        return int(self.call("POST", f"/api/v2/dags/{dag_id}/clearTaskInstances", body)["total_entries"])

    def xcoms(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> dict[str, Any]:
        """Key -> value of what a task instance pushed."""
        base = f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances/{task_id}/xcomEntries"
        keys = [entry["key"] for entry in self._pages(base, "xcom_entries", map_index=map_index)]
        return {key: self.call("GET", f"{base}/{quote(key)}?map_index={map_index}")["value"] for key in keys}

    def _pages(self, path: str, field: str, **query: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            answer = self.call("GET", f"{path}?{urlencode({**query, 'limit': 100, 'offset': len(found)})}")
            found += answer[field]
            if not answer[field] or len(found) >= int(answer["total_entries"]):
                return found

    def _until(self, done: Callable[[], bool], timeout_s: float, complaint: Callable[[], str]) -> None:
        deadline = time.monotonic() + timeout_s
        while not done():
            if time.monotonic() > deadline:
                raise NotInTimeError(complaint())
            time.sleep(0.5)
