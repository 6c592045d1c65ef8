"""How the Airflow of the demo is set up: its environment, its secrets, and that it leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from lifecycle.demo.airflow_stack import (
    COMPONENTS,
    STARTING_ORDER,
    AirflowStack,
    StackSettings,
    environment,
    prepare_home,
    stack_secrets,
)
from lifecycle.demo.components import spawn, stop_in_order
from lifecycle.demo.server_process import PidFile
from lifecycle.demo.servers import free_port

# A component that ignores SIGTERM, with a child in a process group of its own, as Airflow's tasks are.
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"], process_group=0)
print(child.pid, flush=True)
time.sleep(120)
"""


@pytest.fixture
def settings(tmp_path: Path) -> StackSettings:
    project = tmp_path / "project"
    (project / "config").mkdir(parents=True)
    return StackSettings(
        home=tmp_path / "airflow",
        project=project,
        port=free_port(),
        metadata_url="sqlite://",
        users={"admin": ("admin", "s3cret"), "eve": ("viewer", "other")},
        env={"AIRFLOW_CONN_X": "{}", "AIRFLOW__CORE__PARALLELISM": "2"},
    )


def test_nothing_of_a_surrounding_airflow_is_inherited(
    settings: StackSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__LOAD_EXAMPLES", "True")
    monkeypatch.setenv("AIRFLOW_CONN_LIFECYCLE_POSTGRES", "postgres://production")
    monkeypatch.setenv("LIFECYCLE_POLICY", "/somewhere/else.yaml")
    env = environment(settings)
    assert env["AIRFLOW__CORE__LOAD_EXAMPLES"] == "False"
    assert "AIRFLOW_CONN_LIFECYCLE_POSTGRES" not in env
    assert "LIFECYCLE_POLICY" not in env
    assert (env["AIRFLOW_CONN_X"], env["AIRFLOW__CORE__PARALLELISM"]) == ("{}", "2"), "ours win"


def test_it_listens_on_this_machine_only_and_its_first_path_is_ours(settings: StackSettings) -> None:
    env = environment(settings)
    assert env["AIRFLOW__API__HOST"] == "127.0.0.1"
    assert env["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)
    assert env["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == f"http://127.0.0.1:{settings.port}/execution/"


def test_secrets_are_long_private_random_and_kept(tmp_path: Path) -> None:
    first = stack_secrets(tmp_path / "a" / "secrets.json")
    assert len(first["AIRFLOW__API_AUTH__JWT_SECRET"].encode()) >= 64
    assert (tmp_path / "a" / "secrets.json").stat().st_mode & 0o077 == 0
    assert stack_secrets(tmp_path / "a" / "secrets.json") == first
    assert stack_secrets(tmp_path / "b" / "secrets.json") != first


def test_passwords_are_written_before_the_start_and_private(settings: StackSettings) -> None:
    prepare_home(settings)
    passwords = settings.home / "passwords.json"
    assert json.loads(passwords.read_text()) == {"admin": "s3cret", "eve": "other"}
    assert passwords.stat().st_mode & 0o077 == 0
    assert environment(settings)["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"] == "admin:admin,eve:viewer"


def test_every_component_is_started_and_the_api_server_is_stopped_last() -> None:
    assert set(STARTING_ORDER) == set(COMPONENTS)
    assert list(COMPONENTS)[-1] == "api-server", "running tasks report to it until they are gone"


def test_a_stubborn_component_and_its_task_are_gone_after_the_stop(tmp_path: Path) -> None:
    log = tmp_path / "component.log"
    component = spawn([sys.executable, "-c", STUBBORN], env=os.environ, log=log, cwd=tmp_path, port=1)
    deadline = time.monotonic() + 20
    while not log.read_text().strip():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    task = psutil.Process(int(log.read_text()))
    stop_in_order({"scheduler": component}, grace_s=0.5)
    assert not component.alive()
    assert not task.is_running() or task.status() == psutil.STATUS_ZOMBIE


def test_stopping_what_does_not_run_does_nothing(settings: StackSettings) -> None:
    settings.home.mkdir()
    stack = AirflowStack(settings)
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        # A pid file whose process is gone and whose number somebody else has got since.
        PidFile(other.pid, started=1.0, port=settings.port).write(settings.home / "scheduler.pid")
        stack.stop()
        assert other.poll() is None, "a stranger was stopped"
        assert stack.components() == {}
    finally:
        other.send_signal(signal.SIGKILL)
        other.wait(10)
