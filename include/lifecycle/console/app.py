"""The console as a FastAPI application. Who may see it is decided by the dependencies it is given; without any it
refuses to be built, because Airflow adds no authentication to a plugin's routes."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse

from lifecycle.config import Configuration, load_configuration
from lifecycle.console.data import overview
from lifecycle.console.explain import LONGEST_BODY, fields, render_answer, render_form
from lifecycle.console.model import Overview
from lifecycle.console.runs import find_run
from lifecycle.stores.postgres.connect import Connection, connect
from lifecycle.validation.report import find_report

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# A page that everybody can reload must not hold the database up.
STATEMENT_TIMEOUT_MS = 20_000
REFRESH_S = 30
_CHUNK = 1 << 16
_NEVER_STORED = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
_REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)


@dataclass(frozen=True)
class Sources:
    """Where the console reads; replaced in tests."""

    configuration: Callable[[], Configuration]
    s3: Callable[[], S3Client]
    now: Callable[[], datetime]


@cache
def _client() -> S3Client:
    from lifecycle.connections import s3_client

    return s3_client()


def production() -> Sources:
    """The configured stores and the clock."""
    return Sources(load_configuration, _client, lambda: datetime.now(UTC))


@contextmanager
def _database() -> Iterator[Connection]:
    """A connection that only reads."""
    with connect() as conn:
        conn.execute(
            "SELECT set_config('statement_timeout', %s, false), set_config('default_transaction_read_only', 'on',"
            " false)",
            (str(STATEMENT_TIMEOUT_MS),),
        )
        yield conn


def create_app(guards: Sequence[Any], sources: Sources | None = None) -> FastAPI:
    """The console behind some guards (FastAPI dependencies that refuse who may not see it).

    Raises:
        ValueError: no guard is given.
    """
    if not guards:
        raise ValueError("the console needs a guard: a plugin's routes are open to anybody otherwise")
    reads = sources or production()
    # The generated documentation is not covered by dependencies.
    app = FastAPI(title="Retention", dependencies=list(guards), docs_url=None, redoc_url=None, openapi_url=None)

    def look() -> Overview:
        with _database() as conn:
            return overview(conn, reads.s3(), reads.configuration(), reads.now())

    @app.get("/", response_class=HTMLResponse)
    def page() -> HTMLResponse:
        nonce = secrets.token_urlsafe(16)
        headers = _NEVER_STORED | {"Content-Security-Policy": _policy(nonce)}
        return HTMLResponse(render_page(look(), nonce), headers=headers)

    @app.get("/explain", response_class=HTMLResponse)
    def explain_form() -> HTMLResponse:
        nonce = secrets.token_urlsafe(16)
        return HTMLResponse(render_form(nonce, reads.now()), headers=_form_headers(nonce))

    @app.post("/explain", response_class=HTMLResponse)
    async def explain(request: Request) -> HTMLResponse:
        length = request.headers.get("content-length", "")
        if not length.isdecimal() or int(length) > LONGEST_BODY:
            raise HTTPException(413, "that is too long for a name")
        asked, nonce = fields(await request.body()), secrets.token_urlsafe(16)

        def answer() -> str:
            with _database() as conn:
                return render_answer(conn, reads.s3, reads.configuration(), asked, nonce, reads.now())

        return HTMLResponse(await run_in_threadpool(answer), headers=_form_headers(nonce))

    @app.get("/api/overview")
    def as_json() -> JSONResponse:
        return JSONResponse(look().as_dict(), headers=_NEVER_STORED)

    @app.get("/report/{run_id}")
    def report(run_id: int) -> StreamingResponse:
        config = reads.configuration()
        with _database() as conn:
            run = find_run(conn, run_id)
        bucket = config.catalog.evidence_bucket
        key = find_report(reads.s3(), bucket, run.scope, run.as_of, run.run_id) if run is not None else None
        if key is None:
            raise HTTPException(404, "there is no report of this run")
        body = reads.s3().get_object(Bucket=bucket, Key=key)["Body"]
        return StreamingResponse(
            body.iter_chunks(_CHUNK),
            media_type="text/html; charset=utf-8",
            headers=_NEVER_STORED | {"Content-Security-Policy": _REPORT_POLICY},
        )

    return app


def _form_headers(nonce: str) -> dict[str, str]:
    """A page without script, whose form may only go back to where it came from."""
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'"
    )
    return _NEVER_STORED | {"Content-Security-Policy": policy}


def _policy(nonce: str) -> str:
    return (
        f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; img-src data:;"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    )


def render_page(shown: Overview, nonce: str) -> str:
    """The page for one moment. It fetches itself again now and then, and nothing else."""
    from lifecycle.console.render import environment

    page: str = environment().get_template("page.html").render(o=shown, nonce=nonce, refresh_s=REFRESH_S)
    return page
