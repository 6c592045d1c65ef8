"""The console as a FastAPI application. Who may see it is decided by the dependencies it is given; without any it
refuses to be built, because Airflow adds no authentication to a plugin's routes."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse

from lifecycle.config import Configuration, load_configuration
from lifecycle.console.data import overview
from lifecycle.console.explain import LONGEST_BODY, fields, render_answer, render_form
from lifecycle.console.model import Overview
from lifecycle.console.runs import find_run
from lifecycle.console.switch import ONE_STORE, Switch
from lifecycle.deployment import current_store, stores, using
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


@lru_cache(maxsize=64)
def _client_of(store: str) -> S3Client:
    from lifecycle.connections import s3_client

    return s3_client()


def _client() -> S3Client:
    """A client for the store that is looked at."""
    return _client_of(current_store().name)


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
    def page(store: str = "") -> HTMLResponse:
        nonce = secrets.token_urlsafe(16)
        headers = _NEVER_STORED | {"Content-Security-Policy": _policy(nonce)}
        with _looking_at(store) as switch:
            return HTMLResponse(render_page(look(), nonce, switch), headers=headers)

    @app.get("/explain", response_class=HTMLResponse)
    def explain_form(store: str = "") -> HTMLResponse:
        nonce = secrets.token_urlsafe(16)
        with _looking_at(store) as switch:
            return HTMLResponse(render_form(nonce, reads.now(), switch), headers=_form_headers(nonce))

    @app.post("/explain", response_class=HTMLResponse)
    async def explain(request: Request, store: str = "") -> HTMLResponse:
        length = request.headers.get("content-length", "")
        if not length.isdecimal() or int(length) > LONGEST_BODY:
            raise HTTPException(413, "that is too long for a name")
        asked, nonce = fields(await request.body()), secrets.token_urlsafe(16)

        def answer() -> str:
            with _looking_at(store) as switch, _database() as conn:
                return render_answer(conn, reads.s3, reads.configuration(), asked, nonce, reads.now(), switch)

        return HTMLResponse(await run_in_threadpool(answer), headers=_form_headers(nonce))

    @app.get("/api/overview")
    def as_json(store: str = "") -> JSONResponse:
        with _looking_at(store):
            return JSONResponse(look().as_dict(), headers=_NEVER_STORED)

    @app.get("/report/{run_id}")
    def report(run_id: int, store: str = "") -> StreamingResponse:
        with _looking_at(store):
            bucket, s3 = reads.configuration().catalog.evidence_bucket, reads.s3()
            with _database() as conn:
                run = find_run(conn, run_id)
        key = find_report(s3, bucket, run.scope, run.as_of, run.run_id) if run is not None else None
        if key is None:
            raise HTTPException(404, "there is no report of this run")
        body = s3.get_object(Bucket=bucket, Key=key)["Body"]
        return StreamingResponse(
            body.iter_chunks(_CHUNK),
            media_type="text/html; charset=utf-8",
            headers=_NEVER_STORED | {"Content-Security-Policy": _REPORT_POLICY},
        )

    return app


@contextmanager
def _looking_at(store: str) -> Iterator[Switch]:
    """Look at a store by its name; at the first one when none is named, so that the page has something to show.

    Raises:
        HTTPException: 404, there is no such store.
    """
    names = [each.name for each in stores() if each.declared]
    if store and store not in names:
        raise HTTPException(404, "there is no store of that name")
    shown = store or (names[0] if names else "")
    with using(shown or None):
        yield Switch(shown, tuple(names))


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


def render_page(shown: Overview, nonce: str, switch: Switch = ONE_STORE) -> str:
    """The page for one moment. It fetches itself again now and then, and nothing else."""
    from lifecycle.console.render import environment

    page: str = environment().get_template("page.html").render(o=shown, nonce=nonce, refresh_s=REFRESH_S, switch=switch)
    return page
