"""`lifecycle demo`: a real Airflow, PostgreSQL and S3 on this machine, a store full of data, and the DAGs run once."""

from __future__ import annotations

import json
import secrets
import shlex
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import TypeVar

import psycopg

from lifecycle.cli.output import progress, say
from lifecycle.config import load_configuration
from lifecycle.demo.airflow_stack import AirflowStack, StackSettings, write_private
from lifecycle.demo.report import ScopeReport, scope_reports
from lifecycle.demo.rest import AirflowRest
from lifecycle.demo.servers import (
    Postgres,
    S3Server,
    remove_postgres,
    require_free_port,
    running_postgres,
    running_s3,
    start_postgres,
    start_s3,
    stop_postgres,
    stop_s3,
)
from lifecycle.demo.watch import DagOutcome, run_dags
from lifecycle.errors import LifecycleError

PRODUCT, METADATA = "product", "airflow"
TIER_DAGS = ("retention_consumer", "retention_beta", "retention_evaluation", "retention_business")
# One after the other: training examples and accounts go when their messages have gone. The last two only read.
AFTER_TIERS = (("retention_records",), ("retention_erasure",), ("retention_auditor", "retention_watch"))
# Runs only when a run has found something that waits for a yes.
ON_DEMAND = ("retention_approval",)
DAGS_WITHIN_S = 120.0
RUN_WITHIN_S = 900.0
USER = "admin"
Server = TypeVar("Server")


class AlreadyRunningError(LifecycleError):
    """There is a demo already."""


@dataclass(frozen=True)
class DemoOptions:
    """Sizes, instant and ports of a demo; what is not given has the defaults of the command line."""

    accounts: int
    days: int
    messages: int
    objects: int
    as_of: datetime
    seed: int
    airflow_port: int
    postgres_port: int
    s3_port: int


@dataclass(frozen=True)
class Outcome:
    """How the DAGs ended, and what their runs did."""

    dags: tuple[DagOutcome, ...]
    scopes: tuple[ScopeReport, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        return all(dag.passed for dag in self.dags) and all(scope.passed for scope in self.scopes)


class Demo:
    """One demo, living in a folder: servers, Airflow, logs and secrets (0600)."""

    def __init__(self, project: Path, home: Path) -> None:
        self.project, self.home = project, home

    def up(self, options: DemoOptions) -> Outcome:
        """Start everything, run the DAGs once over REST, leave it running. On any error everything is stopped again.

        Raises:
            AlreadyRunningError: a demo runs in this folder.
            PortTakenError: a port is in use; says which option changes it.
        """
        if self._anything_running():
            raise AlreadyRunningError(
                f"the demo is running already: {self.url() or 'its servers are up'}. "
                "See `lifecycle demo status`; stop it with `make demo-down`."
            )
        _check_ports(options)
        began = time.monotonic()
        self._clean()
        try:
            dags = self._start_and_run(options)
            reports = scope_reports(self.postgres().conninfo(PRODUCT))
        except BaseException:
            self.down()
            raise
        return Outcome(tuple(dags), tuple(reports), time.monotonic() - began)

    def down(self) -> bool:
        """Stop everything. False when nothing ran. Logs stay in the folder until the next `up`."""
        ran = self._anything_running()
        settings = self._read_settings()
        if settings is not None:
            AirflowStack(settings).stop()
        stop_s3(self._servers)
        stop_postgres(self._servers)
        return ran

    def status(self) -> dict[str, object]:
        """What runs, and where."""
        settings = self._read_settings()
        postgres, s3 = running_postgres(self._servers), running_s3(self._servers)
        stack = AirflowStack(settings) if settings else None
        return {
            "running": self._anything_running(),
            "airflow": {"url": self.url(), "health": stack.health() if stack and stack.components() else {}},
            "postgres": {"port": postgres.port} if postgres else None,
            "s3": {"url": s3.endpoint_url} if s3 else None,
            "environment": str(self.home / "env") if self._anything_running() else None,
        }

    def url(self) -> str | None:
        """Address of the UI, when Airflow runs."""
        settings = self._read_settings()
        return settings.url if settings and AirflowStack(settings).components() else None

    def login(self) -> tuple[str, str]:
        """User and password of the UI."""
        settings = self._read_settings()
        if settings is None:
            raise LifecycleError("there is no demo; start one with `make demo`")
        return USER, settings.users[USER][1]

    def postgres(self) -> Postgres:
        """The running PostgreSQL."""
        return _alive(running_postgres(self._servers), "PostgreSQL")

    def s3(self) -> S3Server:
        """The running S3 server."""
        return _alive(running_s3(self._servers), "the S3 server")

    # -- steps of `up`

    def _start_and_run(self, options: DemoOptions) -> list[DagOutcome]:
        say("starting PostgreSQL and S3")
        postgres = start_postgres(self._servers, port=options.postgres_port, durable=False)
        s3 = start_s3(self._servers, port=options.s3_port)
        for name in (PRODUCT, METADATA):
            _create_database(postgres, name)
        settings = self._write_settings(options, postgres, s3)
        say("starting Airflow while the store is seeded")
        with ThreadPoolExecutor(1) as pool:
            starting = pool.submit(AirflowStack(settings).start)
            try:
                _seed(options, postgres, s3)
            finally:
                starting.result()
        say(f"Airflow is healthy at {settings.url}")
        api = AirflowRest(settings.url, USER, settings.users[USER][1])
        return self._run_dags(api, options.as_of)

    def _run_dags(self, api: AirflowRest, as_of: datetime) -> list[DagOutcome]:
        api.import_pools(self.project / "pools.json")
        everything = (*TIER_DAGS, *chain.from_iterable(AFTER_TIERS))
        api.wait_for_dags({*everything, *ON_DEMAND}, DAGS_WITHIN_S)
        for dag_id in (*everything, *ON_DEMAND):
            api.set_paused(dag_id, False)
        conf = {"as_of": as_of.isoformat()}
        outcomes: list[DagOutcome] = []
        for together in (TIER_DAGS, *AFTER_TIERS):
            outcomes += run_dags(api, together, conf, timeout_s=RUN_WITHIN_S)
        return outcomes

    # -- what is remembered in the folder

    @property
    def _servers(self) -> Path:
        return self.home / "servers"

    @property
    def _settings_file(self) -> Path:
        return self.home / "airflow.json"

    def _anything_running(self) -> bool:
        settings = self._read_settings()
        airflow = AirflowStack(settings).components() if settings else {}
        return bool(airflow or running_postgres(self._servers) or running_s3(self._servers))

    def _clean(self) -> None:
        """Remove what an earlier demo left: it is stopped, and its objects went with its S3 server.

        Raises:
            LifecycleError: the folder holds something that is not a demo.
        """
        marker = self.home / "lifecycle-demo"
        if self.home.exists() and any(self.home.iterdir()):
            if not marker.is_file():
                raise LifecycleError(f"{self.home} is not empty and not a demo; give another folder with --home")
            if self._servers.is_dir():
                remove_postgres(self._servers)
            shutil.rmtree(self.home)
        self.home.mkdir(parents=True, mode=0o711, exist_ok=True)
        marker.touch()

    def _write_settings(self, options: DemoOptions, postgres: Postgres, s3: S3Server) -> StackSettings:
        connections = {
            "AIRFLOW_CONN_LIFECYCLE_POSTGRES": json.dumps(postgres.airflow_connection(PRODUCT)),
            "AIRFLOW_CONN_LIFECYCLE_S3": json.dumps(s3.airflow_connection()),
        }
        exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in connections.items())
        write_private(self.home / "env", exports)
        remembered = {
            "port": options.airflow_port,
            "metadata_url": postgres.url(METADATA, "postgresql+psycopg2"),
            "password": secrets.token_urlsafe(9),
            "env": connections,
        }
        write_private(self._settings_file, json.dumps(remembered))
        settings = self._read_settings()
        if settings is None:
            raise LifecycleError(f"{self._settings_file} could not be written")
        return settings

    def _read_settings(self) -> StackSettings | None:
        if not self._settings_file.is_file():
            return None
        kept = json.loads(self._settings_file.read_text(encoding="utf-8"))
        return StackSettings(
            home=self.home / "airflow",
            project=self.project,
            port=kept["port"],
            metadata_url=kept["metadata_url"],
            users={USER: ("admin", kept["password"])},
            env=kept["env"],
        )


def find_project() -> Path:
    """The checkout this package runs from: the demo needs its DAGs, plugins and pools.

    Raises:
        LifecycleError: the package was installed without them.
    """
    root = Path(__file__).resolve().parents[3]
    if not (root / "dags").is_dir():
        raise LifecycleError("the demo needs the project's dags/ and plugins/; run it from a clone, with `make demo`")
    return root


def _alive(server: Server | None, name: str) -> Server:
    if server is None:
        raise LifecycleError(f"{name} of the demo is not running")
    return server


def _check_ports(options: DemoOptions) -> None:
    named = {
        options.airflow_port: ("Airflow's API server", "--airflow-port"),
        options.postgres_port: ("the embedded PostgreSQL", "--postgres-port"),
        options.s3_port: ("the embedded S3 server", "--s3-port"),
    }
    if len(named) < 3:
        raise LifecycleError("--airflow-port, --postgres-port and --s3-port must be three different ports")
    for port, (server, option) in named.items():
        require_free_port(port, f"{server} ({option})")


def _create_database(postgres: Postgres, name: str) -> None:
    from psycopg import sql

    with psycopg.connect(postgres.conninfo(), autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))


def _seed(options: DemoOptions, postgres: Postgres, s3: S3Server) -> None:
    from reference_store.create import create_store
    from reference_store.seed import seed_store

    conninfo, client = postgres.conninfo(PRODUCT), s3.client()
    create_store(conninfo, client, load_configuration().catalog)
    with progress("seeding messages", options.messages) as advance:
        seed_store(
            conninfo,
            client,
            accounts=options.accounts,
            days=options.days,
            as_of=options.as_of,
            seed=options.seed,
            messages=options.messages,
            objects=options.objects,
            progress=_steps(advance),
        )


def _steps(advance: Callable[..., None]) -> Callable[[str, int, int], None]:
    """The generator's reports (stage, done, total) as steps of a bar that counts messages."""
    shown = 0

    def report(stage: str, done: int, _total: int) -> None:
        nonlocal shown
        if stage == "messages":
            advance(done - shown)
            shown = done
        else:
            advance(0, note=stage)

    return report
