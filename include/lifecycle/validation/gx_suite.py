"""A run judged by Great Expectations: the auditor's queries as query assets that must select no row, and column
expectations on the tables whose shape is a promise.

Great Expectations opens its own connection. Results never carry values: every query selects a constant, and the result
format keeps counts only (hard case 25). Imported inside functions: the library costs seconds.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from lifecycle.config import Configuration
from lifecycle.errors import PreconditionError
from lifecycle.policy.models import Tier
from lifecycle.stores.postgres.connect import Connection
from lifecycle.validation.auditor import count
from lifecycle.validation.fragments import relation
from lifecycle.validation.models import Check, CheckResult, Promise, Severity, broken
from lifecycle.validation.prepare import Prepared, prepare
from lifecycle.validation.queries.records import RESEARCH_COLUMNS
from lifecycle.validation.staging import shared_stage

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# Counts, and never one of the 20 values that the default format keeps.
RESULT_FORMAT = {"result_format": "BASIC", "partial_unexpected_count": 0}
_NEVER_USED_URL = "postgresql+psycopg://postgres@localhost/postgres"
_WHOLE = "all"
_NOT_CHECKED = " (could not be checked)"


class Engine(StrEnum):
    """Who evaluates the checks: Great Expectations, or the database alone where the library's import costs too much."""

    GREAT_EXPECTATIONS = "great_expectations"
    SQL = "sql"


@dataclass(frozen=True)
class ValidationReport:
    """The verdicts on one run. ``failures`` are the critical ones; warnings are only shown."""

    run_id: int
    scope: str
    as_of: datetime
    results: tuple[CheckResult, ...]
    engine: str
    ledger_rows: int
    ledger_head: str
    versions_listed: int
    copies_read: int

    @property
    def failures(self) -> dict[str, int]:
        return broken(self.results)

    @property
    def passed(self) -> bool:
        return not self.failures

    @property
    def checked(self) -> int:
        return len(self.results)


@dataclass(frozen=True)
class TableExpectation:
    """An expectation on a whole table, beside the queries. ``make`` gets the module of expectations."""

    name: str
    table: str
    promise: Promise
    description: str
    make: Callable[[Any], Any]

    def result(self, violations: int) -> CheckResult:
        return CheckResult(
            self.name, self.promise.value, Severity.CRITICAL.value, violations, violations == 0, self.description
        )


def validate(
    conn: Connection,
    s3: S3Client,
    config: Configuration,
    run_id: int,
    as_of: datetime,
    scope: str,
    *,
    engine: Engine = Engine.GREAT_EXPECTATIONS,
) -> ValidationReport:
    """Judge one run of one scope; what belongs to other scopes is not looked at, since they may not have run yet.

    Raises:
        PreconditionError: the connection is inside a transaction, whose staged facts nobody else would see.
    """
    if not conn.autocommit:
        raise PreconditionError("validation needs a connection in autocommit mode")
    with shared_stage(conn) as stage:
        prepared = prepare(conn, s3, config, stage, as_of, (scope,), run_id)
        if engine is Engine.SQL:
            judge, results = "SQL", count(conn, prepared.checks)
        else:
            judge, results = _judge(conn, config, scope, prepared)
    return ValidationReport(
        run_id=run_id,
        scope=scope,
        as_of=as_of,
        results=tuple(results),
        engine=judge,
        ledger_rows=prepared.chain.rows,
        ledger_head=prepared.chain.head,
        versions_listed=prepared.versions_listed,
        copies_read=prepared.copies_read,
    )


def _judge(conn: Connection, config: Configuration, scope: str, prepared: Prepared) -> tuple[str, list[CheckResult]]:
    """The verdicts of Great Expectations, and its version."""
    gx = _great_expectations()
    tables = list(_table_expectations(config, scope))
    queries = {check.name: literal(conn, check) for check in prepared.checks} | {
        wanted.name: sql.SQL("SELECT * FROM {}").format(relation(wanted.table)).as_string(conn) for wanted in tables
    }
    source = _data_source(gx, conn, queries)
    try:
        results = [*_judge_queries(source, gx, prepared), *_judge_tables(source, gx, tables)]
    finally:
        # The library keeps two pools: one to look at tables, one to run queries.
        source.get_execution_engine().engine.dispose()
        source.get_engine().dispose()
    return f"Great Expectations {gx.__version__}", results


def _great_expectations() -> Any:
    # Some 200 lines at INFO come while the library is imported, and warnings about modules that are not ours.
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import great_expectations

    return great_expectations


def _data_source(gx: Any, conn: Connection, queries: Mapping[str, str]) -> Any:
    """A data source on the server that ``conn`` is connected to, with an asset for each query.

    The password is not part of any URL, which Great Expectations would keep and show. Assets are given all at once:
    with each one added, the library writes its whole configuration again, which was half of a validation's time.
    """
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    # In memory, without data docs (they render values, and are empty without a CDN) and without progress bars.
    context = gx.get_context(
        mode="ephemeral",
        project_config=DataContextConfig(
            store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
            progress_bars=ProgressBarsConfig(globally=False),
        ),
    )
    parameters = conn.info.get_parameters() | {"application_name": "lifecycle-validation"}
    if conn.info.password:
        parameters["password"] = conn.info.password
    assets = [
        {"type": "query", "name": name, "query": query, "batch_definitions": [{"name": _WHOLE}]}
        for name, query in queries.items()
    ]
    return context.data_sources.add_postgres(
        "store", connection_string=_NEVER_USED_URL, kwargs={"connect_args": parameters}, assets=assets
    )


def _batch(source: Any, name: str) -> Any:
    return source.get_asset(name).get_batch_definition(_WHOLE).get_batch()


def _judge_queries(source: Any, gx: Any, prepared: Prepared) -> Iterator[CheckResult]:
    for check in prepared.checks:
        expectation = gx.expectations.ExpectTableRowCountToEqual(
            value=0, description=check.description, severity=check.severity.value, meta={"promise": check.promise.value}
        )
        found = _batch(source, check.name).validate(expectation, result_format=RESULT_FORMAT)
        if _raised(found):
            yield _unchecked(check.result(1))
        else:
            yield check.result(int(found.result["observed_value"]))


def literal(conn: Connection, check: Check) -> str:
    """The check's query with its parameters quoted into it by the driver; Great Expectations binds none."""
    # It asks that a query begins with SELECT and a blank; some of ours begin with WITH.
    query = sql.SQL("SELECT violation FROM ({}) AS q").format(check.query)
    return psycopg.ClientCursor(conn).mogrify(query, dict(check.params) or None)


def _judge_tables(source: Any, gx: Any, tables: Iterable[TableExpectation]) -> Iterator[CheckResult]:
    for wanted in tables:
        found = _batch(source, wanted.name).validate(wanted.make(gx.expectations), result_format=RESULT_FORMAT)
        if _raised(found):
            yield _unchecked(wanted.result(1))
        else:
            count = int(found.result.get("unexpected_count") or 0)
            yield wanted.result(0 if found.success else max(1, count))


def _table_expectations(config: Configuration, scope: str) -> Iterator[TableExpectation]:
    if not config.catalog.has_messages:
        return
    variants = {tier.value for rule in config.policy.rules if rule.instead_of is not None for tier in rule.tiers}
    research = config.catalog.messages.research.table
    if scope in variants:
        yield TableExpectation(
            "expect_research_columns",
            research,
            Promise.DEIDENTIFIED,
            f"{research} has exactly the columns {', '.join(RESEARCH_COLUMNS)}",
            lambda gxe: gxe.ExpectTableColumnsToMatchSet(column_set=list(RESEARCH_COLUMNS), exact_match=True),
        )
        yield TableExpectation(
            "expect_research_tiers",
            research,
            Promise.DEIDENTIFIED,
            f"Every row of {research} is of a tier that may be de-identified",
            lambda gxe: gxe.ExpectColumnValuesToBeInSet(column="tier", value_set=sorted(variants)),
        )
    if scope in set(Tier):
        yield TableExpectation(
            "expect_quarantine_clocks",
            "lifecycle.quarantine",
            Promise.QUARANTINE,
            "Every entry of the quarantine index keeps its original time of receipt",
            lambda gxe: gxe.ExpectColumnValuesToNotBeNull(column="received_at"),
        )


def _raised(found: Any) -> bool:
    """Whether the expectation could not be evaluated. The library keeps the error with the result and goes on."""
    info = found.exception_info or {}
    return bool(info.get("raised_exception")) or any(
        isinstance(each, dict) and each.get("raised_exception") for each in info.values()
    )


def _unchecked(result: CheckResult) -> CheckResult:
    """Not knowing is not passing. The error's own text stays out: it may quote what it read."""
    return CheckResult(
        result.name, result.promise, Severity.CRITICAL.value, 1, False, result.description + _NOT_CHECKED
    )
