"""`lifecycle demo`: what it refuses before it starts anything. The rest is in tests/e2e."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from lifecycle.cli.main import app
from lifecycle.demo.servers import free_port


def demo(*words: object) -> Result:
    return CliRunner().invoke(app, ["demo", *(str(word) for word in words)])


def ports() -> dict[str, int]:
    return {option: free_port() for option in ("--airflow-port", "--postgres-port", "--s3-port")}


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as somebody:
        somebody.bind(("127.0.0.1", 0))
        somebody.listen()
        yield int(somebody.getsockname()[1])


@pytest.mark.parametrize("option", ["--airflow-port", "--postgres-port", "--s3-port"])
def test_a_taken_port_is_named_with_the_option_that_changes_it(tmp_path: Path, option: str, taken: int) -> None:
    chosen = ports() | {option: taken}
    result = demo("up", "--home", tmp_path / "demo", *(word for pair in chosen.items() for word in pair))
    assert result.exit_code == 1
    assert f"port {taken}" in result.stderr
    assert option in result.stderr
    assert not (tmp_path / "demo").exists(), "refused before anything was made"


def test_one_port_for_two_servers_is_refused(tmp_path: Path) -> None:
    port = free_port()
    result = demo("up", "--home", tmp_path / "demo", "--airflow-port", port, "--s3-port", port)
    assert result.exit_code == 1
    assert "three different ports" in result.stderr


def test_an_instant_in_the_future_is_refused(tmp_path: Path) -> None:
    result = demo("up", "--home", tmp_path / "demo", "--as-of", "2100-01-01")
    assert result.exit_code == 2
    assert "future" in result.stderr


def test_a_folder_that_is_no_demo_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    result = demo("up", "--home", tmp_path, *(word for pair in ports().items() for word in pair))
    assert result.exit_code == 1
    assert "not a demo" in result.stderr
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_down_and_status_without_a_demo(tmp_path: Path) -> None:
    for _ in range(2):
        stopped = demo("down", "--home", tmp_path)
        assert (stopped.exit_code, stopped.stderr) == (0, "no demo was running\n")
    status = demo("status", "--home", tmp_path, "--json")
    assert status.exit_code == 1
    assert json.loads(status.stdout)["running"] is False
    assert "make demo" in demo("status", "--home", tmp_path).stdout


@pytest.mark.parametrize("command", ["up", "down", "status"])
def test_every_command_has_an_example(command: str) -> None:
    assert f"lifecycle demo {command}" in demo(command, "--help").stdout
