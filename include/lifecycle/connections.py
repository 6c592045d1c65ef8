"""The two connections of a store, by their Airflow ids: ``lifecycle_postgres`` and ``lifecycle_s3``, or as the file of
stores has them.

The environment is read first and without Airflow; whatever else Airflow is configured with (a secrets backend, its
own database) is asked through the task SDK.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lifecycle.airflow_connection import AirflowConnection, UnreadableConnectionError, parse_connection
from lifecycle.deployment import POSTGRES_ID, S3_ID, current_store
from lifecycle.errors import ConfigurationError, Problem

if TYPE_CHECKING:
    from botocore.config import Config
    from mypy_boto3_s3 import S3Client

_EXAMPLES = {
    POSTGRES_ID: "postgres://user:password@host:5432/database",
    S3_ID: '{"conn_type": "aws", "login": "ACCESS_KEY", "password": "SECRET_KEY", '
    '"extra": {"endpoint_url": "http://127.0.0.1:9000", "region_name": "us-east-1"}}',
}
_MORE = {POSTGRES_ID: ", or with a socket directory postgres://user@%2Frun%2Fpostgresql/database", S3_ID: ""}
_TYPES = {POSTGRES_ID: {"postgres"}, S3_ID: {"aws", "s3", "generic"}}

# Extras that mean something to Airflow's PostgreSQL hook and nothing to libpq.
_NOT_FOR_LIBPQ = frozenset({"redshift", "redshift-serverless", "cursor", "cluster-identifier", "workgroup-name",
                            "aws_conn_id", "sqlalchemy_scheme", "sqlalchemy_query", "azure_conn_id"})  # fmt: skip
# Later settings win: ours stand last. Clocks are compared and days are cut in UTC (hard case 10).
_SESSION_OPTIONS = "-c TimeZone=UTC"

_RETRIES = {"mode": "adaptive", "total_max_attempts": 8}
_CONNECT_TIMEOUT_S, _READ_TIMEOUT_S, _POOL = 5, 60, 32


def environment_variable(name: str) -> str:
    """The variable in which Airflow looks for a connection of this id."""
    return f"AIRFLOW_CONN_{name.upper()}"


def connection_id(kind: str) -> str:
    """The Airflow id of the current store's connection; ``kind`` is POSTGRES_ID or S3_ID."""
    store = current_store()
    return store.postgres if kind == POSTGRES_ID else store.s3


def s3_place() -> str:
    """Where the current store's buckets are: the endpoint of its connection, or ``aws``, where names are unique."""
    return _endpoint(_connection(S3_ID).extra) or "aws"


def postgres_conninfo() -> str:
    """The libpq connection string of the product database; sessions opened with it run in UTC.

    Raises:
        ConfigurationError: the connection is missing, or holds what libpq does not know.
    """
    from psycopg.conninfo import make_conninfo

    connection = _connection(POSTGRES_ID)
    extra = dict(connection.extra)
    if extra.pop("iam", False):
        raise _refused(
            POSTGRES_ID, "extra 'iam' is not supported", "Give a login and a password, or a client certificate"
        )
    settings: dict[str, Any] = {
        "host": connection.host,
        "port": connection.port,
        "user": connection.login,
        "password": connection.password,
        "dbname": connection.schema,
        "application_name": "lifecycle",
        "connect_timeout": 10,
        **{key: _libpq_value(value) for key, value in extra.items() if key not in _NOT_FOR_LIBPQ},
    }
    settings["options"] = f"{settings.get('options') or ''} {_SESSION_OPTIONS}".strip()
    _check_libpq_names(settings)
    return make_conninfo("", **{key: value for key, value in settings.items() if value not in (None, "")})


def _check_libpq_names(settings: Mapping[str, Any]) -> None:
    from psycopg.pq import Conninfo

    known = {option.keyword.decode() for option in Conninfo.get_defaults()}
    unknown = sorted(set(settings) - known)
    if unknown:
        raise _refused(
            POSTGRES_ID,
            f"extra {', '.join(map(repr, unknown))} is not a libpq parameter",
            "Keep only libpq parameters in 'extra', for example sslmode, sslrootcert or connect_timeout",
        )


def _libpq_value(value: Any) -> Any:
    return int(value) if isinstance(value, bool) else value


def s3_client() -> S3Client:
    """A boto3 client for S3: safe to share between threads, with retries, timeouts and a pool for 32 of them.

    With ``endpoint_url`` in the connection's extra, addresses are path-style and checksums are only sent where S3
    requires them, as servers other than AWS expect; ``config_kwargs`` in extra overrides each of these.

    Raises:
        ConfigurationError: the connection is missing, or its extra cannot be used.
    """
    connection = _connection(S3_ID)
    extra = dict(connection.extra)
    config = _botocore_config(extra)
    if "role_arn" in extra:
        return _client_of_assumed_role(config)
    import boto3

    session = boto3.session.Session(
        aws_access_key_id=connection.login or extra.get("aws_access_key_id"),
        aws_secret_access_key=connection.password or extra.get("aws_secret_access_key"),
        aws_session_token=extra.get("aws_session_token"),
        region_name=extra.get("region_name"),
        profile_name=extra.get("profile_name"),
    )
    try:
        return session.client("s3", endpoint_url=_endpoint(extra), verify=extra.get("verify"), config=config)
    except ValueError:
        raise _refused(S3_ID, "extra 'endpoint_url' is not a URL", "Write for example http://127.0.0.1:9000") from None


def _endpoint(extra: Mapping[str, Any]) -> str | None:
    """As Airflow's Amazon provider: an endpoint for S3 alone wins over one for all services."""
    services = extra.get("service_config")
    of_s3 = services.get("s3") if isinstance(services, Mapping) else None
    own = of_s3.get("endpoint_url") if isinstance(of_s3, Mapping) else None
    return own or extra.get("endpoint_url") or None


def _botocore_config(extra: Mapping[str, Any]) -> Config:
    from botocore import UNSIGNED
    from botocore.config import Config

    settings: dict[str, Any] = {
        "retries": _RETRIES,
        "connect_timeout": _CONNECT_TIMEOUT_S,
        "read_timeout": _READ_TIMEOUT_S,
        "max_pool_connections": _POOL,
        "tcp_keepalive": True,
    }
    if _endpoint(extra) is not None:
        settings |= {
            "s3": {"addressing_style": "path"},
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
        }
    given = extra.get("config_kwargs") or {}
    try:
        for key, value in given.items():
            # A nested setting replaces only itself, not its neighbours; retries are one decision.
            settings[key] = settings["s3"] | value if key == "s3" and "s3" in settings else value
        if settings.get("signature_version") == "unsigned":
            settings["signature_version"] = UNSIGNED
        return Config(**settings)
    except Exception as error:  # noqa: BLE001 - botocore raises a class of its own for each wrong setting
        raise _refused(
            S3_ID,
            f"extra 'config_kwargs' is not a botocore configuration ({type(error).__name__})",
            'Write for example "config_kwargs": {"read_timeout": 120, "s3": {"addressing_style": "virtual"}}',
        ) from None


def _client_of_assumed_role(config: Config) -> S3Client:
    """Airflow's provider knows how to assume a role and to renew its credentials; its cost is an import of Airflow."""
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    client: S3Client = S3Hook(aws_conn_id=connection_id(S3_ID), config=config).get_conn()
    return client


def _connection(kind: str) -> AirflowConnection:
    own = connection_id(kind)
    text = os.environ.get(environment_variable(own), "")
    try:
        connection = parse_connection(text) if text.strip() else _from_airflow(kind, own)
    except UnreadableConnectionError as error:
        raise _refused(kind, str(error), f"Write for example {_EXAMPLES[kind]}") from None
    if connection.conn_type and connection.conn_type not in _TYPES[kind]:
        expected = " or ".join(sorted(_TYPES[kind]))
        raise _refused(
            kind,
            f"the connection is of type {connection.conn_type!r}, not {expected}",
            f"Write for example {_EXAMPLES[kind]}",
        )
    return connection


def _from_airflow(kind: str, own: str) -> AirflowConnection:
    """Ask Airflow: a secrets backend, the supervisor of this task, or the metadata database."""
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        found = BaseHook.get_connection(own)
    except AirflowNotFoundException:
        raise _refused(
            kind,
            "is not set, and Airflow knows no connection of that name",
            f"Set it, for example {environment_variable(own)}='{_EXAMPLES[kind]}'{_MORE[kind]}",
        ) from None
    return AirflowConnection(
        conn_type=found.conn_type,
        host=found.host,
        login=found.login,
        password=found.password,
        schema=found.schema,
        port=found.port,
        extra=found.extra_dejson,
    )


def _refused(kind: str, message: str, remedy: str) -> ConfigurationError:
    variable = environment_variable(connection_id(kind))
    return ConfigurationError([Problem("environment", 0, variable, message, remedy)])
