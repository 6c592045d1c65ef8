"""Which failures of a task are worth another try."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule  # noqa: TID253  (a DAG file's own import)

# First match wins. Dotted paths, so that no DAG file imports a driver for its exceptions by itself.
RETRY_POLICY = ExceptionRetryPolicy(
    rules=[
        RetryRule(
            exception="lifecycle.errors.RunInProgressError",
            action=RetryAction.RETRY,
            retry_delay=timedelta(minutes=5),
            reason="another run of this scope is alive (say, from the command line); it ends, or its lease does",
        ),
        RetryRule(
            exception=[
                "lifecycle.errors.ConfigurationError",
                "lifecycle.errors.PreconditionError",
                "lifecycle.errors.FencedOutError",
                "lifecycle.errors.ValidationFailedError",
                "lifecycle.errors.DeadlineAtRiskError",
                "lifecycle.errors.LedgerError",
            ],
            action=RetryAction.FAIL,
            reason="the same again would fail again; a person has to look",
        ),
        RetryRule(
            exception=[
                "lifecycle.errors.DispositionError",
                "lifecycle.errors.VerificationError",
                "psycopg.OperationalError",
                "botocore.exceptions.BotoCoreError",
                "botocore.exceptions.ClientError",
            ],
            action=RetryAction.RETRY,
            retry_delay=timedelta(seconds=30),
            reason="a store was away, busy or throttling; steps resume where they stopped",
        ),
    ],
    default=RetryAction.DEFAULT,
)
