"""The page "Explain": the same answer, in the same words, as `lifecycle explain`.

The name of what is asked about comes in the body of a POST, never in an address, which servers log.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from lifecycle.config import Configuration
from lifecycle.console.render import environment
from lifecycle.console.switch import ONE_STORE, Switch
from lifecycle.explain.ask import KINDS, QuestionError, ask
from lifecycle.stores.postgres.connect import Connection

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_s3 import S3Client

LONGEST_BODY = 8_192
_NOT_AN_INSTANT = "Not a date and time; write for example 2026-11-01T06:00"


def fields(body: bytes) -> dict[str, str]:
    """The fields of a form, as a browser sends them."""
    return {name: values[-1] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}


def _instant(text: str) -> datetime:
    """What a browser's field says, which has no zone: UTC."""
    found = datetime.fromisoformat(text)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def render_form(nonce: str, now: datetime, switch: Switch = ONE_STORE) -> str:
    """The empty form."""
    return _render(nonce, now, {}, switch)


def render_answer(
    conn: Connection,
    s3: Callable[[], S3Client],
    config: Configuration,
    asked: Mapping[str, str],
    nonce: str,
    now: datetime,
    switch: Switch = ONE_STORE,
) -> str:
    """The form with an answer, or with what is wrong with the question."""
    try:
        as_of = _instant(asked["as_of"]) if asked.get("as_of") else now
    except ValueError:
        return _render(nonce, now, asked, switch, problem=_NOT_AN_INSTANT)
    kind = asked.get("kind", "message")
    try:
        answer = ask(conn, s3, config, kind if kind in KINDS else "message", asked.get("name", "").strip(), as_of)
    except QuestionError as error:
        problem = str(error)
        return _render(nonce, as_of, asked, switch, problem=problem[0].upper() + problem[1:])
    return _render(nonce, as_of, asked, switch, answer=answer)


def _render(
    nonce: str,
    as_of: datetime,
    asked: Mapping[str, str],
    switch: Switch,
    answer: dict[str, Any] | None = None,
    problem: str = "",
) -> str:
    shown: dict[str, Any] = {
        "nonce": nonce,
        "switch": switch,
        "as_of": as_of,
        "kinds": KINDS,
        "kind": asked.get("kind", "message"),
        "name": asked.get("name", ""),
        "typed": asked.get("as_of", ""),
        "answer": {"text": answer["text"], "rules": answer.get("rules", [])} if answer is not None else None,
        "problem": problem,
    }
    page: str = environment().get_template("explain.html").render(**shown)
    return page
