"""The embedded S3 server (ministack) as a process of ours.

It keeps everything in memory. Its persistent mode is not offered: there, versions cannot be read by their id, and legal
holds do not survive a restart (ministack 1.5.33, tried).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifecycle.demo.server_process import (
    LOOPBACK,
    PidFile,
    PortTakenError,
    ServerError,
    die_with_parent,
    free_port,
    require_free_port,
    running,
    stop_process,
    wait_until,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

NAME = "the embedded S3 server"
REGION = "us-east-1"
# ministack checks no credentials; any pair does.
ACCESS_KEY, SECRET_KEY = "test", "test"
START_SECONDS = 60.0
STOP_SECONDS = 30.0


@dataclass(frozen=True)
class S3Server:
    """An S3 endpoint with the keys to it; ``pid`` is None for one that is not ours."""

    endpoint_url: str
    access_key: str = ACCESS_KEY
    secret_key: str = SECRET_KEY
    region: str = REGION
    pid: int | None = None

    def client(self) -> S3Client:
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=self.region,
            config=Config(
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                max_pool_connections=32,
                retries={"mode": "standard", "max_attempts": 4},
            ),
        )

    def airflow_connection(self) -> dict[str, Any]:
        """The JSON form of an Airflow connection (AIRFLOW_CONN_...)."""
        return {
            "conn_type": "aws",
            "login": self.access_key,
            "password": self.secret_key,
            "extra": {"endpoint_url": self.endpoint_url, "region_name": self.region},
        }


def start_s3(directory: Path, *, port: int | None = None, tie_to_parent: bool = False) -> S3Server:
    """Start the server of a directory, empty; a running one is returned as it is.

    Args:
        directory: where log and pid file live.
        port: None picks a free one.
        tie_to_parent: the server ends when this process does, however that ends.

    Raises:
        PortTakenError: the wanted port is in use.
        ServerError: it did not come up; carries the end of its log.
    """
    directory.mkdir(parents=True, exist_ok=True)
    server = running_s3(directory)
    if server is not None:
        return server
    if find_spec("ministack") is None:
        raise ServerError("the package ministack is not installed; install this project with the extra [demo]")
    for attempt in range(5):
        chosen = free_port() if port is None else port
        require_free_port(chosen, NAME)
        try:
            return _launch(directory, chosen, tie_to_parent)
        except ServerError as error:
            # somebody took the port between our look and the server's bind; only a port of our choice may be changed
            if port is not None or attempt == 4 or "in use" not in str(error):
                raise
    raise PortTakenError(0, NAME)


def running_s3(directory: Path) -> S3Server | None:
    """The server of a directory, if it runs."""
    found = PidFile.read(directory / "s3.pid")
    return None if found is None else S3Server(f"http://{LOOPBACK}:{found.port}", pid=found.pid)


def stop_s3(directory: Path) -> bool:
    """Stop the server of a directory. False when none ran."""
    found = PidFile.read(directory / "s3.pid")
    if found is not None:
        stop_process(found.pid, with_signal=signal.SIGTERM, seconds=STOP_SECONDS, what=NAME)
    (directory / "s3.pid").unlink(missing_ok=True)
    return found is not None


def reset_s3(server: S3Server) -> None:
    """Forget every bucket and object; a matter of milliseconds. Only the embedded server can do that."""
    request = urllib.request.Request(f"{server.endpoint_url}/_ministack/reset", method="POST")
    with urllib.request.urlopen(request, timeout=30):
        pass


def _environment(directory: Path, port: int) -> dict[str, str]:
    settings = {
        "GATEWAY_PORT": str(port),
        "MINISTACK_HOST": LOOPBACK,
        "BIND_HOST": LOOPBACK,
        "MINISTACK_REGION": REGION,
        "SERVICES": "s3",
        # its other listeners have fixed ports
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        # an access log would name every key (hard case 25), and costs time
        "LOG_LEVEL": "WARNING",
        "PERSIST_STATE": "0",
        "S3_PERSIST": "0",
        # where it writes a pid file of its own
        "TMPDIR": str(directory),
    }
    return {**os.environ, **settings}


def _launch(directory: Path, port: int, tie_to_parent: bool) -> S3Server:
    log = directory / "s3.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "ministack"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=directory,
            env=_environment(directory.resolve(), port),
            start_new_session=True,
            preexec_fn=die_with_parent(signal.SIGKILL) if tie_to_parent else None,
        )
    server = S3Server(f"http://{LOOPBACK}:{port}", pid=process.pid)
    wait_until(lambda: _answers(server), alive=running(process), what=NAME, log=log, seconds=START_SECONDS)
    PidFile.of(process.pid, port).write(directory / "s3.pid")
    return server


def _answers(server: S3Server) -> bool:
    try:
        with urllib.request.urlopen(f"{server.endpoint_url}/_ministack/health", timeout=2):
            return True
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
