"""Case 25: what a task raises is logged, so it must not hold values of records."""

from __future__ import annotations

import traceback

import psycopg
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from pydantic import BaseModel

from lifecycle.errors import DispositionError
from lifecycle.orchestration.process import task_process
from lifecycle.orchestration.redaction import UnexpectedError

CANARY = "canary-6f1c@example.com"


class _Model(BaseModel):
    number: int


def _client_error() -> ClientError:
    return ClientError({"Error": {"Code": "NoSuchKey", "Message": CANARY}}, "GetObject")


def _raise(error: BaseException) -> None:
    try:
        raise ValueError(CANARY)
    except ValueError:
        raise error from ValueError(CANARY)


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (psycopg.errors.UniqueViolation(f"DETAIL: Key (email)=({CANARY}) exists"), psycopg.errors.UniqueViolation),
        (psycopg.OperationalError(CANARY), psycopg.OperationalError),
        (_client_error(), ClientError),
        (EndpointConnectionError(endpoint_url=f"http://s3/{CANARY}"), EndpointConnectionError),
        (KeyError(CANARY), UnexpectedError),
        (ValueError(CANARY), UnexpectedError),
    ],
)
def test_case_25_the_class_stays_and_the_text_goes(error: Exception, kept: type[Exception]) -> None:
    """Retry rules match by class, so a driver's error keeps its own."""
    with pytest.raises(kept) as caught, task_process():
        _raise(error)
    shown = "".join(traceback.format_exception(caught.value))
    assert CANARY not in shown
    assert CANARY not in str(caught.value)


def test_case_25_an_error_that_shows_its_input_is_replaced() -> None:
    with pytest.raises(UnexpectedError, match="ValidationError") as caught, task_process():
        _Model.model_validate({"number": CANARY})
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_codes_and_counts_are_kept() -> None:
    with pytest.raises(ClientError, match="NoSuchKey"), task_process():
        raise _client_error()
    with pytest.raises(DispositionError, match=r"day: 2 item\(s\)"), task_process():
        raise DispositionError("day", 2, {"deleted": 5})
