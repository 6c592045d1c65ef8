"""docker-compose.yaml, Dockerfile and .env.example, checked without Docker: not every machine has it."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from lifecycle.airflow_connection import parse_connection
from lifecycle.demo.server_process import running, wait_until
from lifecycle.demo.servers import free_port
from support.store import Store

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
COMPOSE = ROOT / "docker-compose.yaml"
AIRFLOW_SERVICES = ["airflow-apiserver", "airflow-scheduler", "airflow-dag-processor", "airflow-triggerer"]
VARIABLE = re.compile(r"(?<!\$)\$\{(?P<name>[A-Z][A-Z0-9_]*)(?::\?[^}]*)?\}")

NOWHERE = "postgres://nobody@127.0.0.1:1/nothing"

pytestmark = pytest.mark.timeout(300)


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]
    return found


def example_env() -> dict[str, str]:
    """.env as `make env` would write it."""
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        from make_env import filled  # type: ignore[import-not-found]
    finally:
        sys.path.pop(0)
    lines = filled((ROOT / ".env.example").read_text(encoding="utf-8")).splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def interpolated(text: str, env: dict[str, str]) -> str:
    return VARIABLE.sub(lambda match: env[match["name"]], text).replace("$$", "$")


def environment_of(service: str, env: dict[str, str]) -> dict[str, str]:
    return {name: interpolated(str(value), env) for name, value in services()[service]["environment"].items()}


def test_the_file_follows_the_compose_specification() -> None:
    command = [str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_example_env_is_complete_and_has_nothing_over() -> None:
    used = {match["name"] for match in VARIABLE.finditer(COMPOSE.read_text(encoding="utf-8"))}
    assert used == set(example_env())


def test_no_secret_is_committed_and_each_is_made_long_enough() -> None:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    secret = [line for line in text.splitlines() if re.search(r"(PASSWORD|SECRET|SECRET_KEY)=", line)]
    assert len(secret) == 6
    assert all(line.endswith("=") for line in secret)
    made = example_env()
    assert len(made["AIRFLOW_JWT_SECRET"].encode()) >= 64
    assert len({made[line.rstrip("=")] for line in secret}) == len(secret), "no secret is used twice"


def test_ports_are_open_on_this_machine_only() -> None:
    for name, service in services().items():
        assert all(str(port).startswith("127.0.0.1:") for port in service.get("ports", [])), name


def test_every_long_running_service_has_a_health_check_and_waits_for_init() -> None:
    for name, service in services().items():
        if name == "airflow-init":
            continue
        assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL"), name
        if name in AIRFLOW_SERVICES:
            assert service["depends_on"]["airflow-init"] == {"condition": "service_completed_successfully"}


def test_all_airflow_services_share_the_secrets_and_find_the_stores() -> None:
    env = example_env()
    settings = [environment_of(name, env) for name in [*AIRFLOW_SERVICES, "airflow-init"]]
    for name in ("AIRFLOW__API_AUTH__JWT_SECRET", "AIRFLOW__API__SECRET_KEY", "PYTHONPATH"):
        assert len({setting[name] for setting in settings}) == 1
    postgres = parse_connection(settings[0]["AIRFLOW_CONN_LIFECYCLE_POSTGRES"])
    s3 = parse_connection(settings[0]["AIRFLOW_CONN_LIFECYCLE_S3"])
    product = environment_of("product-postgres", env)
    assert (postgres.host, postgres.login, postgres.password, postgres.schema) == (
        "product-postgres",
        product["POSTGRES_USER"],
        product["POSTGRES_PASSWORD"],
        product["POSTGRES_DB"],
    )
    assert s3.extra["endpoint_url"] == f"http://s3:{environment_of('s3', env)['GATEWAY_PORT']}"


@pytest.mark.parametrize("service", AIRFLOW_SERVICES)
def test_airflow_knows_the_command_of_the_service(service: str, tmp_path: Path) -> None:
    """And that of its health check."""
    commands = [["airflow", *shlex.split(services()[service]["command"])]]
    check = services()[service]["healthcheck"]["test"]
    if check[0] == "CMD-SHELL":
        commands.append(shlex.split(check[1].replace("$$", "$")))
    for command in commands:
        done = subprocess.run(
            [BIN / command[0], *command[1:], "--help"],
            env={"AIRFLOW_HOME": str(tmp_path), "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "usage" in done.stdout.lower()


def test_the_init_script_prepares_metadata_pools_login_and_store(store: Store, tmp_path: Path) -> None:
    """The script that airflow-init runs, run by hand on SQLite and the embedded servers."""
    home = tmp_path / "airflow"
    passwords = home / "auth" / "passwords.json"
    env = {
        **os.environ,
        **store.env,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
        "ADMIN_PASSWORD": "a 'quoted\" password",
        "POOLS_FILE": str(ROOT / "pools.json"),
    }
    home.mkdir()
    script = ["bash", str(ROOT / "scripts" / "compose_init.sh")]
    several = {"LIFECYCLE_STORES": str(a_second_store(tmp_path)), "AIRFLOW_CONN_LIFECYCLE_POSTGRES_ANNEX": NOWHERE}
    for more in ({}, several):  # a second `docker compose up` runs it again, here with a second store
        done = subprocess.run(script, env={**env, **more}, capture_output=True, text=True, check=False, timeout=250)
        assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(passwords.read_text()) == {"admin": "a 'quoted\" password"}
    assert passwords.stat().st_mode & 0o077 == 0
    listed = subprocess.run(
        [BIN / "airflow", "pools", "list", "-o", "json"], env=env, capture_output=True, text=True, check=True
    )
    pools = {pool["pool"] for pool in json.loads(listed.stdout)}
    assert {"retention_postgres", "retention_s3", "retention_annex_postgres", "retention_annex_s3"} <= pools
    assert store.value("SELECT count(*) FROM pg_tables WHERE schemaname = 'lifecycle'") > 0


def a_second_store(folder: Path) -> Path:
    """A file of stores: the product's, and one whose database cannot be reached."""
    path = folder / "stores.yaml"
    datasets = ROOT / "include" / "datasets"
    path.write_text(
        f"version: 1\npolicy: {ROOT / 'include' / 'policies' / 'retention.yaml'}\nstores:\n"
        f"  - {{name: default, datasets: {datasets / 'reference_store.yaml'}, postgres: lifecycle_postgres}}\n"
        f"  - {{name: annex, datasets: {datasets / 'litellm.yaml'}, postgres: lifecycle_postgres_annex}}\n",
        encoding="utf-8",
    )
    return path


def test_a_file_of_stores_and_its_connections_reach_every_airflow_service() -> None:
    """By a file that need not be there; what compose itself sets cannot be overridden by it."""
    for name in [*AIRFLOW_SERVICES, "airflow-init"]:
        assert services()[name]["env_file"] == [{"path": "stores.env", "required": False}]
        assert "LIFECYCLE_STORES" not in services()[name]["environment"]
    assert "stores.env" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines(), "it holds passwords"


def test_the_init_service_runs_that_script() -> None:
    service = services()["airflow-init"]
    assert service["restart"] == "no"
    assert "bash /opt/airflow/compose_init.sh" in service["command"][0]
    assert subprocess.run(["bash", "-n", "-c", service["command"][0].replace("$$", "$")], check=False).returncode == 0


def test_the_s3_service_serves_and_its_health_check_tells(tmp_path: Path) -> None:
    service, port = services()["s3"], free_port()
    env = {**os.environ, **environment_of("s3", example_env()), "GATEWAY_PORT": str(port), "BIND_HOST": "127.0.0.1"}
    log = tmp_path / "s3.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *service["command"][1:]], env=env, cwd=tmp_path, stdout=output, stderr=output
        )
    try:
        url = f"http://127.0.0.1:{port}/_ministack/health"
        wait_until(lambda: _answers(url), alive=running(process), what="the S3 service", log=log, seconds=60)
        check = service["healthcheck"]["test"][3].replace("9000", str(port))
        assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
    finally:
        process.kill()
        process.wait(10)
    assert subprocess.run([sys.executable, "-c", check], check=False, stderr=subprocess.DEVNULL).returncode != 0


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except OSError:
        return False


def test_the_s3_service_has_the_version_of_the_lock() -> None:
    locked = re.search(r"^ministack==(\S+)", (ROOT / "requirements.lock").read_text(encoding="utf-8"), re.M)
    assert locked is not None
    assert f"ministack=={locked[1]} " in services()["s3"]["build"]["dockerfile_inline"]


def test_every_mounted_folder_and_copied_file_exists() -> None:
    for service in services().values():
        for volume in service.get("volumes", []):
            source = volume.split(":", 1)[0]
            assert not source.startswith(".") or (ROOT / source).exists(), source
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8")
    for line in (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines():
        if line.startswith("COPY"):
            for source in line.split()[2:-1]:
                assert (ROOT / source).exists(), source
                assert f"!{source}\n" in ignored, f"{source} is not in the build context"


def test_the_lock_works_as_constraints_as_the_dockerfile_makes_them() -> None:
    """Every run-time dependency is pinned, and every line of the result is something pip understands."""
    edit = re.search(r"sed (-e .*) build/requirements.lock", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    assert edit is not None
    made = subprocess.run(
        ["sed", *shlex.split(edit[1]), str(ROOT / "requirements.lock")], capture_output=True, text=True, check=True
    ).stdout
    lines = [line for line in made.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    pinned = {Requirement(line).name for line in lines}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {Requirement(line).name for line in project["dependencies"]} <= pinned


def test_the_image_is_the_official_one_of_the_locked_version() -> None:
    locked = re.search(r"^apache-airflow==(\S+)", (ROOT / "requirements.lock").read_text(encoding="utf-8"), re.M)
    assert locked is not None
    assert example_env()["AIRFLOW_IMAGE"] == f"apache/airflow:{locked[1]}"
    assert f"ARG AIRFLOW_IMAGE=apache/airflow:{locked[1]}\n" in (ROOT / "Dockerfile").read_text(encoding="utf-8")
