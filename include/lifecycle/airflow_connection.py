"""An Airflow connection as Airflow would read it from the environment, without importing Airflow (3 s).

A differential test holds this reading to ``airflow.models.connection.Connection``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

_EXTRA_KEY = "__extra__"
_FIELDS = frozenset({"conn_type", "description", "host", "login", "password", "schema", "port", "extra", "team_name"})


class UnreadableConnectionError(ValueError):
    """The text is not a connection. The message never repeats the text: it may hold a password."""


@dataclass(frozen=True)
class AirflowConnection:
    """The parts of a connection. ``extra`` is the decoded JSON object; the password is kept out of ``repr``."""

    conn_type: str | None = None
    host: str | None = None
    login: str | None = None
    password: str | None = field(default=None, repr=False)
    schema: str | None = None
    port: int | None = None
    extra: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}), repr=False)


def parse_connection(text: str) -> AirflowConnection:
    """Read the value of an ``AIRFLOW_CONN_…`` variable: JSON when it starts with a brace, a URI otherwise.

    Raises:
        UnreadableConnectionError: it is neither, or a part of it cannot be what it stands for.
    """
    text = text.strip()
    return _from_json(text) if text.startswith("{") else _from_uri(text)


def _from_json(text: str) -> AirflowConnection:
    try:
        given = json.loads(text)
    except json.JSONDecodeError as error:
        raise UnreadableConnectionError(f"not valid JSON at line {error.lineno}, column {error.colno}") from None
    unknown = sorted(set(given) - _FIELDS)
    if unknown:
        raise UnreadableConnectionError(
            f"unknown key(s) {', '.join(map(repr, unknown))}; what is not a field of a connection belongs into 'extra'"
        )
    for name in ("conn_type", "host", "login", "password", "schema"):
        if not isinstance(given.get(name), str | None):
            raise UnreadableConnectionError(f"{name!r} must be text in quotes")
    conn_type = given.get("conn_type")
    return AirflowConnection(
        conn_type=_normalised_type(conn_type) if conn_type else None,
        host=given.get("host"),
        login=given.get("login"),
        password=given.get("password") or None,
        schema=given.get("schema"),
        port=_port(given.get("port")),
        extra=_extra(given.get("extra")),
    )


def _port(value: Any) -> int | None:
    if not value:
        return None
    try:
        return int(value)
    except (TypeError, ValueError):
        raise UnreadableConnectionError("'port' must be a whole number") from None


def _extra(value: Any) -> Mapping[str, Any]:
    """``extra`` is a JSON object, or the text of one."""
    if not value:
        return MappingProxyType({})
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            raise UnreadableConnectionError("'extra' is text that is not JSON") from None
    if not isinstance(value, dict):
        raise UnreadableConnectionError("'extra' must be a JSON object")
    return MappingProxyType(value)


def _from_uri(text: str) -> AirflowConnection:
    """Airflow's URI form: each part percent-encoded, a second ``://`` allowed for a host with its own protocol."""
    schemes = text.count("://")
    if schemes not in (1, 2):
        raise UnreadableConnectionError(
            "neither a JSON object nor a URI such as postgres://login:password@host:5432/db"
        )
    try:
        scheme = urlsplit(text).scheme
        rest = text.replace(f"{scheme}://", "" if schemes == 2 else "//")
        if schemes == 2 and any(mark in rest.split("://", 1)[0] for mark in "@:"):
            raise UnreadableConnectionError("login and password must stand after the second '://'")
        parts = urlsplit(rest)
        port = parts.port
    except UnreadableConnectionError:
        raise
    except ValueError:
        raise UnreadableConnectionError(
            "the URI has a host or port that cannot be read; percent-encode each part"
        ) from None
    host = _host(parts)
    return AirflowConnection(
        conn_type=_normalised_type(scheme),
        host=f"{parts.scheme}://{host}" if host and schemes == 2 else host,
        login=_decoded(parts.username),
        password=_decoded(parts.password) or None,
        schema=unquote(parts.path[1:]),
        port=port,
        extra=_query(parts.query),
    )


def _host(parts: SplitResult) -> str:
    """The host; a socket directory keeps its capitals, which ``urlsplit`` would lower."""
    host = unquote(parts.hostname or "")
    if "/" in host:
        host = unquote(parts.netloc.rsplit("@", 1)[-1].split(":", 1)[0])
    return host


def _decoded(part: str | None) -> str | None:
    return unquote(part) if part else part


def _query(query: str) -> Mapping[str, Any]:
    """Extras of a URI: ``__extra__`` holds all as JSON, else each parameter is one, JSON where it reads as such."""
    given = dict(parse_qsl(query, keep_blank_values=True))
    if _EXTRA_KEY in given:
        return _extra(given[_EXTRA_KEY])
    return MappingProxyType({key: _json_or_text(value) for key, value in given.items()})


def _json_or_text(value: str) -> Any:
    try:
        return json.loads(value) if value else value
    except json.JSONDecodeError:
        return value


def _normalised_type(conn_type: str) -> str:
    return "postgres" if conn_type == "postgresql" else conn_type.replace("-", "_")
