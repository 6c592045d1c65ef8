"""Airflow as four processes of ours. Not `airflow standalone`: SIGTERM to it leaves all four behind as orphans."""

from __future__ import annotations

import base64
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from lifecycle.demo.components import spawn, stop_in_order
from lifecycle.demo.server_process import PidFile, ServerError, require_free_port, tail

# Stopping order: the API server last, since running tasks report to it.
COMPONENTS: dict[str, tuple[str, ...]] = {
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "triggerer": ("triggerer", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
    "api-server": ("api-server",),
}
STARTING_ORDER = ("api-server", "scheduler", "dag-processor", "triggerer")
HEALTHY_WITHIN_S = 240.0
MIGRATE_WITHIN_S = 180.0
STOP_GRACE_S = 20.0


@dataclass(frozen=True)
class StackSettings:
    """Where the stack lives and what it talks to."""

    home: Path  # AIRFLOW_HOME
    project: Path  # holds dags/, plugins/ and config/
    port: int
    metadata_url: str  # SQLAlchemy URL
    users: Mapping[str, tuple[str, str]]  # name -> (role, password)
    env: Mapping[str, str] = field(default_factory=dict)  # connections and overrides

    @property
    def url(self) -> str:
        """Address of the UI and the REST API."""
        return f"http://127.0.0.1:{self.port}"


class AirflowStack:
    """Starts and stops the API server, scheduler, DAG processor and triggerer."""

    def __init__(self, settings: StackSettings) -> None:
        self.settings = settings

    def start(self) -> None:
        """Migrate the metadata database, start the components, wait until all are healthy.

        Raises:
            PortTakenError: the port is in use.
            ServerError: a component ended, or is not healthy within HEALTHY_WITHIN_S seconds.
        """
        require_free_port(self.settings.port, "Airflow's API server")
        prepare_home(self.settings)
        self._migrate()
        env = environment(self.settings)
        for name in STARTING_ORDER:
            log, home = self._log(name), self.settings.home
            component = spawn(airflow_command(*COMPONENTS[name]), env=env, log=log, cwd=home, port=self.settings.port)
            component.write(self._pid_file(name))
        self._wait_healthy()

    def stop(self) -> None:
        """Stop the components and whatever they left behind. Does nothing when none is running."""
        stop_in_order(self.components(), grace_s=STOP_GRACE_S)
        for name in COMPONENTS:
            self._pid_file(name).unlink(missing_ok=True)

    def components(self) -> dict[str, PidFile]:
        """The running components, in stopping order."""
        found = {name: PidFile.read(self._pid_file(name)) for name in COMPONENTS}
        return {name: component for name, component in found.items() if component is not None}

    def health(self) -> dict[str, str]:
        """Status per component; empty when the API server does not answer."""
        try:
            with urlopen(f"{self.settings.url}/api/v2/monitor/health", timeout=5) as response:
                answer = json.load(response)
        except (URLError, OSError):
            return {}
        return {name: str(part["status"]) for name, part in answer.items()}

    def _migrate(self) -> None:
        log = self._log("migrate")
        with log.open("ab") as output:
            done = subprocess.run(
                airflow_command("db", "migrate"),
                env=environment(self.settings),
                cwd=self.settings.home,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=MIGRATE_WITHIN_S,
                check=False,
            )
        if done.returncode != 0:
            raise ServerError(f"airflow db migrate failed ({done.returncode}), see {log}:\n{tail(log)}")

    def _wait_healthy(self) -> None:
        deadline = time.monotonic() + HEALTHY_WITHIN_S
        while True:
            status = self.health()
            if status and all(part == "healthy" for part in status.values()):
                return
            ended = COMPONENTS.keys() - self.components().keys()
            for name in ended:
                raise ServerError(f"Airflow's {name} ended at start, see {self._log(name)}:\n{tail(self._log(name))}")
            if time.monotonic() > deadline:
                raise ServerError(f"Airflow is not healthy after {HEALTHY_WITHIN_S:.0f} s: {status or 'no answer'}")
            time.sleep(0.25)

    def _log(self, name: str) -> Path:
        return self.settings.home / "logs" / f"{name}.log"

    def _pid_file(self, name: str) -> Path:
        return self.settings.home / f"{name}.pid"


def airflow_command(*arguments: str) -> list[str]:
    """The `airflow` of this interpreter's environment."""
    return [str(Path(sys.executable).with_name("airflow")), *arguments]


def prepare_home(settings: StackSettings) -> None:
    """Folders, secrets and passwords; passwords must exist before the API server starts, or it invents its own."""
    (settings.home / "logs").mkdir(parents=True, exist_ok=True)
    config = settings.home / "config"  # on sys.path of every component: airflow_local_settings.py
    if not config.is_symlink():
        config.symlink_to(settings.project / "config", target_is_directory=True)
    passwords = {name: password for name, (_, password) in settings.users.items()}
    write_private(settings.home / "passwords.json", json.dumps(passwords))


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


def stack_secrets(path: Path) -> dict[str, str]:
    """Secrets that all components share, made at random once and kept in `path` (0600)."""
    if path.is_file():
        kept: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
        return kept
    made = {
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(72),  # HS512 wants 64 bytes or more
        "AIRFLOW__API__SECRET_KEY": secrets.token_urlsafe(48),
        "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
    }
    write_private(path, json.dumps(made))
    return made


def environment(settings: StackSettings) -> dict[str, str]:
    """The whole environment of a component; nothing of a surrounding Airflow is inherited."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("AIRFLOW", "LIFECYCLE_"))}
    roles = ",".join(f"{name}:{role}" for name, (role, _) in settings.users.items())
    bin_folder = Path(sys.executable).parent
    return {
        **inherited,
        "PATH": f"{bin_folder}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PYTHONUNBUFFERED": "1",
        "NO_COLOR": "1",
        "AIRFLOW_HOME": str(settings.home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(settings.project / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(settings.project / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "4",  # LocalExecutor starts all its workers at once; the default is 32
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{settings.url}/execution/",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": roles,
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(settings.home / "passwords.json"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": settings.metadata_url,
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(settings.port),
        "AIRFLOW__API__BASE_URL": settings.url,
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "60",
        "AIRFLOW__LOGGING__NAMESPACE_LEVELS": "great_expectations=WARNING",
        # Tuned for a small machine: a task costs 0.2 s of overhead, not 2 s.
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.3",
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        # A dead worker or scheduler is noticed in seconds; the defaults take five minutes.
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "20",
        "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "15",
        **stack_secrets(settings.home / "secrets.json"),
        **settings.env,
    }
