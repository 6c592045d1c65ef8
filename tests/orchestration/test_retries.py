"""Which failures are worth another try."""

from __future__ import annotations

from datetime import timedelta

import psycopg
import pytest
from airflow.sdk import RetryAction
from botocore.exceptions import ClientError, ReadTimeoutError

from lifecycle import errors
from lifecycle.orchestration.retries import RETRY_POLICY

AGAIN, STOP, AS_USUAL = RetryAction.RETRY, RetryAction.FAIL, RetryAction.DEFAULT


@pytest.mark.parametrize(
    ("error", "action"),
    [
        (errors.ConfigurationError([]), STOP),
        (errors.PreconditionError("clocks"), STOP),
        (errors.FencedOutError("unit", 2), STOP),
        (errors.ValidationFailedError({"overdue": 1}), STOP),
        (errors.LedgerError("chain"), STOP),
        (errors.RunInProgressError("beta", "cli/1"), AGAIN),
        (errors.DispositionError("day", 1, {}), AGAIN),
        (errors.VerificationError("copy"), AGAIN),
        (psycopg.OperationalError("away"), AGAIN),
        (psycopg.errors.LockNotAvailable("busy"), AGAIN),
        (ClientError({"Error": {"Code": "SlowDown"}}, "DeleteObjects"), AGAIN),
        (ReadTimeoutError(endpoint_url="http://s3"), AGAIN),
        (psycopg.errors.UndefinedTable("gone"), AS_USUAL),
        (ValueError("anything"), AS_USUAL),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value.value,
)
def test_every_kind_of_failure_has_its_answer(error: Exception, action: RetryAction) -> None:
    assert RETRY_POLICY.evaluate(error, try_number=1, max_tries=3).action is action


def test_a_run_in_progress_is_waited_for_longer_than_a_store() -> None:
    delays = [
        RETRY_POLICY.evaluate(error, 1, 3).retry_delay
        for error in (errors.RunInProgressError("beta", "cli/1"), psycopg.OperationalError("away"))
    ]
    assert delays == [timedelta(minutes=5), timedelta(seconds=30)]
