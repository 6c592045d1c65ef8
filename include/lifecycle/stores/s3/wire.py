"""HTTP connections of our own, kept between requests, and answers read whole: what lean requests go over."""

from __future__ import annotations

import http.client
import io
import os
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

# The client reads and writes what is larger, as a stream.
LARGEST_BODY = 4 << 20


class UnexpectedAnswerError(Exception):
    """Not the answer that was hoped for; ``trouble`` if the server could not do it just now, or did not answer."""

    def __init__(self, *, trouble: bool) -> None:
        self.trouble = trouble
        super().__init__()


@dataclass(frozen=True)
class Reply:
    """An answer in the form in which the client's own handlers know it; header names in lower case."""

    status_code: int
    headers: Mapping[str, str]
    content: bytes = field(repr=False)

    @property
    def raw(self) -> io.BytesIO:
        """The body as a stream."""
        return io.BytesIO(self.content)


@dataclass
class Wire:
    """Connections by scheme and place. ``config`` is the client's; ``verify`` is what it checks certificates against.

    Whoever asks for a place that only the client knows how to reach (a proxy, a certificate of its own, certificates
    that are not to be checked) is refused by `reaches`.
    """

    config: Any
    verify: Any
    _idle: dict[tuple[str, str], list[http.client.HTTPConnection]] = field(default_factory=dict)
    _process: int = 0
    _changing: threading.Lock = field(default_factory=threading.Lock)

    def reaches(self, url: str) -> bool:
        """Whether nothing but an address is needed to get there."""
        scheme, place = urlsplit(url)[:2]
        if self.config.client_cert or _proxied(scheme, place, self.config.proxies):
            return False
        return scheme == "http" or (scheme == "https" and self.verify is not False)

    def exchange(self, method: str, url: str, body: bytes | None, headers: Mapping[str, Any]) -> Reply:
        """Send a request once.

        Raises:
            UnexpectedAnswerError: an answer other than 200, one that is too long, or none.
        """
        scheme, place, path, query, _ = urlsplit(url)
        connection = self._taken(scheme, place)
        kept = False
        try:
            if not _is_open(connection):
                connection.connect()
            # The client's two time-outs: of connecting, given when it was made, and of each reading.
            connection.sock.settimeout(self.config.read_timeout)
            connection.request(method, f"{path}?{query}" if query else path, body=body, headers=dict(headers))
            response = connection.getresponse()
            if response.status != 200 or response.length is None or response.length > LARGEST_BODY:
                raise UnexpectedAnswerError(trouble=response.status >= 500 or response.status == 429)
            content = response.read()
            kept = not response.will_close
        except (OSError, http.client.HTTPException, ValueError):
            raise UnexpectedAnswerError(trouble=True) from None
        finally:
            if kept:
                self._give_back(scheme, place, connection)
            else:
                connection.close()
        return Reply(response.status, _by_name(response), content)

    def _taken(self, scheme: str, place: str) -> http.client.HTTPConnection:
        """A connection that is idle and still open, or a new one that is not open yet."""
        while (connection := self._pop(scheme, place)) is not None:
            if not _dropped(connection):
                return connection
            connection.close()
        timeout = self.config.connect_timeout
        if scheme == "http":
            return http.client.HTTPConnection(place, timeout=timeout)
        return http.client.HTTPSConnection(place, timeout=timeout, context=_tls(self.verify))

    def _pop(self, scheme: str, place: str) -> http.client.HTTPConnection | None:
        with self._changing:
            if self._process != os.getpid():
                # What was opened before a fork belongs to the parent.
                self._idle, self._process = {}, os.getpid()
            idle = self._idle.get((scheme, place))
            return idle.pop() if idle else None

    def _give_back(self, scheme: str, place: str, connection: http.client.HTTPConnection) -> None:
        with self._changing:
            idle = self._idle.setdefault((scheme, place), [])
            if len(idle) < self.config.max_pool_connections:
                idle.append(connection)
                return
        connection.close()


def _by_name(response: http.client.HTTPResponse) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in response.getheaders():
        lower = name.lower()
        headers[lower] = f"{headers[lower]}, {value}" if lower in headers else value
    return headers


def _is_open(connection: http.client.HTTPConnection) -> bool:
    return connection.sock is not None


def _dropped(connection: http.client.HTTPConnection) -> bool:
    """Whether the server has closed it meanwhile: nothing can be waiting there before anything was asked."""
    from urllib3.util.wait import wait_for_read

    return not _is_open(connection) or wait_for_read(connection.sock, timeout=0)


def _proxied(scheme: str, place: str, configured: Mapping[str, str] | None) -> bool:
    return bool(configured.get(scheme)) if configured is not None else _proxied_by_environment(scheme, place)


@cache
def _proxied_by_environment(scheme: str, place: str) -> bool:
    from botocore.utils import get_environ_proxies

    return bool(get_environ_proxies(f"{scheme}://{place}/").get(scheme))


@cache
def _tls(verify: bool | str | None) -> ssl.SSLContext:
    from botocore.httpsession import get_cert_path

    authorities = Path(verify if isinstance(verify, str) else str(get_cert_path(True)))
    if authorities.is_dir():
        return ssl.create_default_context(capath=str(authorities))
    return ssl.create_default_context(cafile=str(authorities))
