"""A thin HTTP proxy before the S3 server: tests step in at an exact request, which no delay can hit.

It forwards requests as they are (their signature stays valid) and asks ``before`` and ``after`` about each; ``instead``
answers without the server, ``change`` puts another answer in the place of the server's.
"""

from __future__ import annotations

import http.client
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from lifecycle.demo.servers import S3Server


@dataclass(frozen=True)
class Request:
    """One S3 request. ``copy_source`` is the x-amz-copy-source of a copy; ``body`` is kept of DeleteObjects only."""

    method: str
    bucket: str
    key: str
    query: dict[str, list[str]]
    copy_source: str | None
    body: bytes = b""
    headers: frozenset[str] = frozenset()

    @property
    def writes(self) -> bool:
        return self.method in ("PUT", "DELETE") or (self.method == "POST")

    @property
    def destroys(self) -> bool:
        return self.method == "DELETE" or (self.method == "POST" and "delete" in self.query)


@dataclass(frozen=True)
class Reply:
    """An answer of XML; ``sent`` is how much of it arrives before the connection breaks."""

    status: int
    body: bytes
    sent: int | None = None


def error_reply(status: int, code: str) -> Reply:
    """As S3 refuses a request; the message names what no log may repeat."""
    return Reply(status, f"<Error><Code>{code}</Code><Message>canary-in-a-message</Message></Error>".encode())


def _nothing(request: Request) -> None:
    """The step of a proxy that only forwards."""


def _no_reply(request: Request) -> Reply | None:
    """As above."""
    return None


def _same(request: Request, reply: Reply) -> Reply:
    """As above."""
    return reply


@dataclass
class Proxy:
    """What a proxy does, changeable while it runs. ``alter`` changes a body
    but not what describes it; ``skew`` moves the Date that S3 answers with."""

    upstream: str
    before: Callable[[Request], None] = _nothing
    after: Callable[[Request], None] = _nothing
    instead: Callable[[Request], Reply | None] = _no_reply
    change: Callable[[Request, Reply], Reply] = _same
    alter: Callable[[bytes], bytes] = bytes
    skew: timedelta = timedelta(0)
    seen: list[Request] = field(default_factory=list)

    @property
    def writes(self) -> int:
        return sum(request.writes for request in self.seen)


def _parse(handler: BaseHTTPRequestHandler, body: bytes) -> Request:
    parts = urlsplit(handler.path)
    bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
    query = parse_qs(parts.query, keep_blank_values=True)
    kept = body if handler.command == "POST" and "delete" in query else b""
    headers = frozenset(name.lower() for name in handler.headers)
    return Request(handler.command, bucket, key, query, handler.headers.get("x-amz-copy-source"), kept, headers)


def _handler(proxy: Proxy) -> type[BaseHTTPRequestHandler]:
    upstream = urlsplit(proxy.upstream)
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _forward(self) -> None:
            body = self._body()
            request = _parse(self, body)
            with lock:
                proxy.seen.append(request)
            proxy.before(request)
            made_up = proxy.instead(request)
            if made_up is not None:
                self._made_up(made_up)
                return
            connection = http.client.HTTPConnection(upstream.hostname or "", upstream.port, timeout=60)
            headers = {k: v for k, v in self.headers.items() if k.lower() not in ("connection", "expect")}
            connection.request(self.command, self.path, body=body, headers=headers)
            answer = connection.getresponse()
            content = proxy.alter(answer.read())
            connection.close()
            proxy.after(request)
            real = Reply(answer.status, content)
            changed = proxy.change(request, real)
            if changed is real:
                self._reply(answer, content)
            else:
                self._made_up(changed)

        def _made_up(self, reply: Reply) -> None:
            self.send_response_only(reply.status)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Date", format_datetime(datetime.now(UTC) + proxy.skew, usegmt=True))
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body[: reply.sent])
            self.close_connection = reply.sent is not None

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            del self.headers["Transfer-Encoding"]
            content = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return content

        def _reply(self, answer: http.client.HTTPResponse, content: bytes) -> None:
            self.send_response_only(answer.status, answer.reason)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "connection", "date", "content-length"):
                    self.send_header(name, value)
            self.send_header("Date", format_datetime(datetime.now(UTC) + proxy.skew, usegmt=True))
            length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
            self.send_header("Content-Length", length or "0")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _forward

        def log_message(self, format: str, *args: Any) -> None:
            """Silent: a test says what it has to say itself."""

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed leaves its connection broken; that is what these tests are for."""


@contextmanager
def proxied(server: S3Server, tls: ssl.SSLContext | None = None) -> Iterator[tuple[Proxy, S3Server]]:
    """A proxy before ``server``, and how to reach it; with ``tls`` it has to be asked over TLS."""
    proxy = Proxy(server.endpoint_url)
    listener = _Server(("127.0.0.1", 0), _handler(proxy))
    if tls is not None:
        listener.socket = tls.wrap_socket(listener.socket, server_side=True)
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy, replace(server, endpoint_url=f"http://127.0.0.1:{listener.server_port}")
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()
