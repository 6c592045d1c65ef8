"""Starts DAG runs over REST and shows how they get on: a bar per DAG on a terminal, plain lines otherwise."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from lifecycle.cli.output import say
from lifecycle.demo.rest import FINISHED, AirflowRest, NotInTimeError

# Often enough to look alive; each look costs the API server, which the tasks need too.
POLL_S = 2.5
ENDED = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})


@dataclass(frozen=True)
class DagOutcome:
    """How a DAG run ended; the tasks that failed, by name."""

    dag_id: str
    run_id: str
    state: str
    seconds: float
    failed_tasks: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return self.state == "success"


class View(Protocol):
    def show(self, dag_id: str, done: int, total: int, note: str) -> None:
        """Say how far a run is; `note` names what is at work."""


def run_dags(
    api: AirflowRest, dag_ids: Sequence[str], conf: Mapping[str, Any], *, timeout_s: float
) -> list[DagOutcome]:
    """Trigger the DAGs together, without logical date, and wait until all have finished.

    Raises:
        NotInTimeError: one has not, after `timeout_s` seconds.
    """
    began = time.monotonic()
    waiting = {dag_id: api.trigger(dag_id, conf) for dag_id in dag_ids}
    outcomes: list[DagOutcome] = []
    with _view() as view:
        while waiting:
            for dag_id, run_id in list(waiting.items()):
                outcome = _look(api, dag_id, run_id, time.monotonic() - began, view)
                if outcome is not None:
                    outcomes.append(outcome)
                    del waiting[dag_id]
            if waiting and time.monotonic() - began > timeout_s:
                raise NotInTimeError(f"not finished after {timeout_s:.0f} s: {', '.join(sorted(waiting))}")
            time.sleep(POLL_S if waiting else 0)
    return outcomes


def _look(api: AirflowRest, dag_id: str, run_id: str, seconds: float, view: View) -> DagOutcome | None:
    # The state first: once it says finished, the task instances do not change any more.
    state = str(api.run(dag_id, run_id)["state"])
    tasks = api.task_instances(dag_id, run_id)
    done = sum(task["state"] in ENDED for task in tasks)
    at_work = sorted({_name(task) for task in tasks if task["state"] == "running"})
    view.show(dag_id, done, len(tasks), state if state in FINISHED else ", ".join(at_work[:3]))
    if state not in FINISHED:
        return None
    failed = tuple(sorted(_name(task) for task in tasks if task["state"] == "failed"))
    return DagOutcome(dag_id, run_id, state, seconds, failed)


def _name(task: Mapping[str, Any]) -> str:
    mapped = task.get("rendered_map_index")
    return f"{task['task_id']} {mapped}" if mapped else str(task["task_id"])


@contextmanager
def _view() -> Iterator[View]:
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description:24}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(file=sys.stderr)) as bars:
        yield _Bars(bars)


class _Bars:
    """One bar per DAG; its length grows when Airflow expands the mapped task."""

    def __init__(self, bars: Any) -> None:
        self._bars = bars
        self._tasks: dict[str, Any] = {}

    def show(self, dag_id: str, done: int, total: int, note: str) -> None:
        if dag_id not in self._tasks:
            self._tasks[dag_id] = self._bars.add_task(dag_id, total=total, note="")
        self._bars.update(self._tasks[dag_id], completed=done, total=total, note=note)


class _Lines:
    """A line whenever a DAG begins another task or ends."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}

    def show(self, dag_id: str, done: int, total: int, note: str) -> None:
        step = note.split(" ", 1)[0].rstrip(",")
        if note and self._said.get(dag_id) != step:
            self._said[dag_id] = step
            say(f"{dag_id}: {done}/{total} tasks, {step}")
