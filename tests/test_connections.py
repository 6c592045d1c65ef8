"""Connections as Airflow reads them, without Airflow; and what is made of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict

from lifecycle.airflow_connection import UnreadableConnectionError, parse_connection
from lifecycle.connections import postgres_conninfo, s3_client
from lifecycle.errors import ConfigurationError

POSTGRES, S3 = "AIRFLOW_CONN_LIFECYCLE_POSTGRES", "AIRFLOW_CONN_LIFECYCLE_S3"
SECRET = "s3cr3t/pä:ss@w?rd#%"
SECRET_ENCODED = "s3cr3t%2Fp%C3%A4%3Ass%40w%3Frd%23%25"

TEXTS = [
    "postgres://user:pw@db.example.com:5432/shop",
    "postgresql://user:pw@db.example.com/shop",
    "postgres://User:PW@DB.Example.COM:5432/Shop",
    f"postgres://u%40corp:{SECRET_ENCODED}@127.0.0.1:5433/my%2Fdb",
    "postgres://user@db/shop",
    "postgres://db/shop",
    "postgres://db",
    "postgres://",
    "postgres:///shop",
    "postgres://user:@db/shop",
    "postgres://:pw@db/shop",
    "postgres://user:pw@:5432/shop",
    "postgres://user:pw@db:/shop",
    "postgres://user:pw@%2Fvar%2Frun%2Fpostgresql/shop",
    "postgres://user:pw@%2Ftmp%2FMixed.Case%2Fsock:5433/shop",
    "postgres://%2Ftmp%2FSock/shop",
    "postgres://user@%2Ftmp%2Fa%20b%3Ac/shop",
    "postgres://user:pw@[::1]:5432/shop",
    "postgres://user:pw@db/shop?sslmode=require",
    "postgres://user:pw@db/shop?sslmode=require&connect_timeout=3&keepalives=1",
    "postgres://user:pw@db/shop?options=-c%20search_path%3Dapp&application_name=",
    "postgres://user:pw@db/shop?sslmode=require&sslmode=disable",
    "postgres://user:pw@db/?sslmode=require",
    "postgres://user:pw@db?sslmode=require",
    "postgres://user:pw@db/shop?__extra__=%7B%22sslmode%22%3A%20%22require%22%7D",
    "postgres://user:pw@db/shop?__extra__=%7B%22a%22%3A%20%7B%22b%22%3A%201%7D%7D&x=ignored",
    "postgres://user:pw@db/shop?__extra__=",
    "postgres://user:pw@db/shop?__extra__=not-json",
    "postgres://user:pw@db/shop?__extra__=%5B1%5D",
    "aws://AKIA%2F:sec%2Fret@?region_name=eu-west-1&endpoint_url=http%3A%2F%2F127.0.0.1%3A9000",
    "aws://AKIA:secret@/?__extra__=%7B%22region_name%22%3A%20%22us-east-1%22%2C%20%22verify%22%3A%20false%7D",
    "aws://AKIA:secret@/?verify=false&config_kwargs=%7B%22read_timeout%22%3A%201%7D&n=1.5&t=true&nothing=null&q=%22x%22",
    "aws://?aws_access_key_id=a&aws_secret_access_key=b",
    "google-cloud-platform://?x=1",
    "generic://https://user:pw@host:80/path",
    "generic://https://host/path?a=b",
    "generic://user:pw@https://host",
    "a://b://c://d",
    "postgres://user:pw@db:port/shop",
    "postgres://user:pw@db:99999/shop",
    "postgres://user:pw@[::1/shop",
    '{"conn_type": "postgres", "host": "db", "login": "u", "password": "p", "schema": "shop", "port": 5432}',
    '  {"conn_type": "postgresql", "host": "/tmp/Sock Dir", "port": "5433", "schema": "shop"}  ',
    '{"conn_type": "postgres", "host": "db", "extra": {"sslmode": "require", "nested": {"a": [1, 2]}}}',
    '{"conn_type": "postgres", "host": "db", "extra": "{\\"sslmode\\": \\"require\\"}"}',
    '{"conn_type": "postgres", "host": "db", "extra": ""}',
    '{"conn_type": "postgres", "host": "db", "extra": {}}',
    '{"conn_type": "postgres", "host": "db", "extra": null, "port": null, "login": null}',
    '{"conn_type": "google-cloud-platform"}',
    '{"host": "db"}',
    "{}",
    '{"conn_type": "postgres", "password": ""}',
    '{"conn_type": "postgres", "port": 0}',
    '{"conn_type": "postgres", "port": "none"}',
    '{"conn_type": "postgres", "user": "u"}',
    '{"conn_type": "postgres", "extra": "not json"}',
    '{"conn_type": "postgres", "extra": "[1]"}',
    '{"conn_type": "postgres", "description": "the shop", "host": "db"}',
    '{"conn_type": "postgres", "host": "db", }',
    json.dumps({"conn_type": "postgres", "login": "ü@", "password": SECRET, "host": "db", "schema": "a/b"}),
]


@pytest.fixture(scope="session")
def airflow_reads(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What Airflow makes of each text; in a process of its own, which leaves this one free of Airflow."""
    home = tmp_path_factory.mktemp("airflow-home")
    answer = home / "answer.json"
    subprocess.run(
        [sys.executable, str(Path(__file__).with_name("airflow_reading.py")), str(answer)],
        input=json.dumps(TEXTS),
        env={**os.environ, "AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"},
        capture_output=True,
        text=True,
        check=True,
    )
    found: list[dict[str, Any]] = json.loads(answer.read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("index", range(len(TEXTS)), ids=lambda index: TEXTS[index])
def test_a_connection_reads_as_in_airflow(index: int, airflow_reads: list[dict[str, Any]]) -> None:
    expected = airflow_reads[index]
    if "refused" in expected:
        with pytest.raises(UnreadableConnectionError):
            parse_connection(TEXTS[index])
        return
    found = parse_connection(TEXTS[index])
    assert {name: getattr(found, name) for name in expected} == expected


def test_neither_repr_nor_errors_tell_a_password() -> None:
    found = parse_connection(f"postgres://user:{SECRET_ENCODED}@db/shop?sslpassword=hush")
    assert found.password == SECRET
    assert SECRET not in repr(found) and "hush" not in repr(found)
    for text in (f"user:{SECRET_ENCODED}@db", f"postgres://u:{SECRET}@[db/x", f'{{"password": "{SECRET}", '):
        with pytest.raises(UnreadableConnectionError) as caught:
            parse_connection(text)
        assert "s3cr3t" not in str(caught.value)


# -- PostgreSQL


def test_conninfo_of_a_uri(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        POSTGRES, f"postgres://user:{SECRET_ENCODED}@127.0.0.1:5433/shop?sslmode=require&connect_timeout=3"
    )
    assert conninfo_to_dict(postgres_conninfo()) == {
        "host": "127.0.0.1",
        "port": "5433",
        "user": "user",
        "password": SECRET,
        "dbname": "shop",
        "sslmode": "require",
        "connect_timeout": "3",
        "application_name": "lifecycle",
        "options": "-c TimeZone=UTC",
    }


def test_conninfo_of_a_socket_directory_in_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        POSTGRES, json.dumps({"conn_type": "postgres", "host": "/tmp/My Sock", "schema": "shop", "login": "u"})
    )
    found = conninfo_to_dict(postgres_conninfo())
    assert (found["host"], found["dbname"], found["user"]) == ("/tmp/My Sock", "shop", "u")
    assert "password" not in found and "port" not in found


def test_settings_of_our_own_come_after_those_given(monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {
        "options": "-c TimeZone=Asia/Tokyo -c search_path=app",
        "application_name": "shop-retention",
        "cursor": "dict",
    }
    monkeypatch.setenv(POSTGRES, json.dumps({"conn_type": "postgres", "host": "db", "extra": extra}))
    found = conninfo_to_dict(postgres_conninfo())
    assert found["options"] == "-c TimeZone=Asia/Tokyo -c search_path=app -c TimeZone=UTC"
    assert found["application_name"] == "shop-retention"


def test_sessions_run_in_utc(postgres_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import psycopg

    given = postgres_server.airflow_connection("postgres")
    extra = {"options": "-c TimeZone=America/New_York"}
    monkeypatch.setenv(POSTGRES, json.dumps(given | {"extra": extra}))
    with psycopg.connect(postgres_conninfo()) as conn:
        row = conn.execute("SELECT current_setting('TimeZone'), current_setting('application_name')").fetchone()
    assert row == ("UTC", "lifecycle")


@pytest.mark.parametrize(
    ("value", "says", "remedy"),
    [
        ("mysql://db/shop", "of type 'mysql', not postgres", "postgres://user"),
        ("postgres://db/shop?sslmoed=require", "'sslmoed' is not a libpq parameter", "sslmode"),
        ('{"conn_type": "postgres", "extra": {"iam": true}}', "'iam' is not supported", "password"),
        ('{"conn_type": "postgres", "hostname": "db"}', "unknown key(s) 'hostname'", "postgres://user"),
        ('{"conn_type": "postgres", "port": "five"}', "'port' must be a whole number", "postgres://user"),
        ('{"conn_type": "postgres", "password": 5}', "'password' must be text", "postgres://user"),
        ("host=db dbname=shop", "neither a JSON object nor a URI", "postgres://user"),
    ],
)
def test_an_unusable_postgres_connection_is_one_clear_problem(
    value: str, says: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(POSTGRES, value)
    with pytest.raises(ConfigurationError) as caught:
        postgres_conninfo()
    (problem,) = caught.value.problems
    assert problem.field == POSTGRES
    assert says in problem.message
    assert remedy in problem.remedy


# -- Airflow's own stores of connections


class _Hook:
    """Stands for airflow.sdk.BaseHook: knows one connection."""

    @staticmethod
    def get_connection(connection_id: str) -> SimpleNamespace:
        from airflow.sdk.exceptions import AirflowNotFoundException

        if connection_id != "lifecycle_postgres":
            raise AirflowNotFoundException(f"The conn_id `{connection_id}` isn't defined")
        return SimpleNamespace(
            conn_type="postgres",
            host="db",
            login="u",
            password="p",
            schema="shop",
            port=5432,
            extra_dejson={"sslmode": "require"},
        )


@pytest.fixture
def airflow_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The task SDK with a connection store of ours; nothing in the environment."""
    monkeypatch.setitem(sys.modules, "airflow.sdk", SimpleNamespace(BaseHook=_Hook))
    monkeypatch.setitem(
        sys.modules,
        "airflow.sdk.exceptions",
        SimpleNamespace(AirflowNotFoundException=type("NotFound", (Exception,), {})),
    )
    monkeypatch.delenv(POSTGRES, raising=False)
    monkeypatch.setenv(S3, "  ")


@pytest.mark.usefixtures("airflow_knows")
def test_airflow_is_asked_when_the_environment_is_silent() -> None:
    found = conninfo_to_dict(postgres_conninfo())
    assert (found["host"], found["sslmode"]) == ("db", "require")


@pytest.mark.usefixtures("airflow_knows")
def test_a_missing_connection_names_the_variable_and_an_example() -> None:
    with pytest.raises(ConfigurationError) as caught:
        s3_client()
    message = str(caught.value)
    assert message.startswith(f"environment: {S3}: is not set")
    assert f'{S3}=\'{{"conn_type": "aws"' in message


# -- S3


def s3_connection(**extra: Any) -> str:
    return json.dumps(
        {"conn_type": "aws", "login": "key", "password": "secret", "extra": {"region_name": "us-east-1"} | extra}
    )


def test_s3_on_a_server_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(S3, s3_connection(endpoint_url="http://127.0.0.1:9000"))
    client = s3_client()
    config: Any = client.meta.config
    assert client.meta.endpoint_url == "http://127.0.0.1:9000"
    assert config.s3 == {"addressing_style": "path"}
    assert config.retries["mode"] == "adaptive" and config.retries["total_max_attempts"] == 8
    assert (config.connect_timeout, config.read_timeout, config.max_pool_connections) == (5, 60, 32)
    assert config.request_checksum_calculation == config.response_checksum_validation == "when_required"
    assert config.region_name == "us-east-1"
    url = client.generate_presigned_url("get_object", Params={"Bucket": "b", "Key": "k"})
    assert url.startswith("http://127.0.0.1:9000/b/k?")


def test_s3_on_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(S3, s3_connection(region_name="eu-west-1"))
    client = s3_client()
    config: Any = client.meta.config
    assert "eu-west-1" in client.meta.endpoint_url and "amazonaws" in client.meta.endpoint_url
    assert config.request_checksum_calculation == "when_supported"
    assert not config.s3 or "addressing_style" not in config.s3


def test_settings_of_s3_may_be_overridden_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    kwargs = {
        "read_timeout": 7,
        "s3": {"payload_signing_enabled": True},
        "retries": {"mode": "standard", "max_attempts": 3},
        "request_checksum_calculation": "when_supported",
    }
    monkeypatch.setenv(S3, s3_connection(endpoint_url="http://127.0.0.1:9000", config_kwargs=kwargs))
    config: Any = s3_client().meta.config
    assert config.read_timeout == 7
    assert config.s3 == {"addressing_style": "path", "payload_signing_enabled": True}
    assert config.retries["mode"] == "standard"
    assert config.request_checksum_calculation == "when_supported"
    assert config.response_checksum_validation == "when_required"
    assert config.max_pool_connections == 32


def test_an_endpoint_for_s3_alone_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"endpoint_url": "http://all:1", "service_config": {"s3": {"endpoint_url": "http://s3:2"}}}
    monkeypatch.setenv(S3, s3_connection(**extra))
    assert s3_client().meta.endpoint_url == "http://s3:2"


def test_a_role_is_assumed_by_airflows_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    """It knows how to renew the credentials; the client keeps our settings."""
    asked: dict[str, Any] = {}

    class Hook:
        def __init__(self, **kwargs: Any) -> None:
            asked.update(kwargs)

        def get_conn(self) -> str:
            return "the client"

    monkeypatch.setitem(sys.modules, "airflow.providers.amazon.aws.hooks.s3", SimpleNamespace(S3Hook=Hook))
    monkeypatch.setenv(S3, s3_connection(role_arn="arn:aws:iam::123456789012:role/retention"))
    client: Any = s3_client()
    assert client == "the client"
    assert asked["aws_conn_id"] == "lifecycle_s3"
    assert asked["config"].max_pool_connections == 32


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("postgres://db", "of type 'postgres', not aws"),
        (s3_connection(config_kwargs={"no_such": 1}), "not a botocore configuration"),
        (s3_connection(config_kwargs=[1]), "not a botocore configuration"),
        (s3_connection(config_kwargs={"retries": {"mode": "hard"}}), "not a botocore configuration"),
        (s3_connection(endpoint_url="127.0.0.1:9000"), "'endpoint_url' is not a URL"),
    ],
)
def test_an_unusable_s3_connection_is_one_clear_problem(value: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(S3, value)
    with pytest.raises(ConfigurationError) as caught:
        s3_client()
    (problem,) = caught.value.problems
    assert (problem.file, problem.line, problem.field) == ("environment", 0, S3)
    assert says in problem.message
    assert "secret" not in str(caught.value)


def test_a_client_talks_to_the_server(s3_server: Any, s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(S3, json.dumps(s3_server.airflow_connection()))
    assert {bucket["Name"] for bucket in s3_client().list_buckets()["Buckets"]} >= {"product-data", "quarantine"}


def test_importing_the_connections_is_cheap() -> None:
    """Every command and every DAG file pays for it."""
    code = "import sys, lifecycle.connections; print([m for m in ('airflow', 'boto3', 'psycopg') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
