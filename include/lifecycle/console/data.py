"""The console's queries. Cheap on purpose: the oldest item by index, and counts only beyond the cut-off, where after a
run only survivors are."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from psycopg import sql
from psycopg.errors import QueryCanceled

from lifecycle.config import Configuration
from lifecycle.console.counting import RECORDS
from lifecycle.console.message_lines import message_lines, quarantine_lines
from lifecycle.console.model import Line, Overview
from lifecycle.console.record_lines import log_line, record_lines
from lifecycle.console.runs import ledger_state, questions, queues, recent_runs, scope_states
from lifecycle.orchestration.standing import standings
from lifecycle.planning.risk import Standing
from lifecycle.policy.models import Tier
from lifecycle.stores.postgres.connect import Connection
from lifecycle.validation.prepare import settled
from lifecycle.validation.scene import Scene, Stage

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = logging.getLogger(__name__)
# None of the checks used here asks what an audit stages.
_NO_STAGE = Stage(*(sql.Identifier("pg_temp", "nothing"),) * 3)


def overview(conn: Connection, s3: S3Client, config: Configuration, as_of: datetime) -> Overview:
    """Everything the page shows, at one instant."""
    scopes = (*(tier.value for tier in Tier), RECORDS)
    scenes = {
        scope: Scene(config.policy, config.catalog, _NO_STAGE, as_of, settled(conn, config, scope, as_of), scope)
        for scope in scopes
    }
    lines = [*message_lines(conn, scenes), *quarantine_lines(conn, scenes), *record_lines(conn, scenes[RECORDS])]
    lines.extend(log_line(config, dataset, as_of) for dataset in config.catalog.log_records)
    standing = {(s.dataset, s.tier): s for s in _standings(conn, s3, config, as_of)}
    lines = [_with_risk(line, standing.get((line.dataset, line.tier)), config, as_of) for line in lines]
    return Overview(
        as_of=as_of,
        policy_name=config.policy.name,
        policy_version=config.policy.version,
        policy_hash=config.policy_hash,
        lead=str(config.policy.lead.total),
        lines=tuple(lines),
        scopes=tuple(scope_states(conn, config.policy, as_of)),
        runs=tuple(recent_runs(conn)),
        ledger=ledger_state(conn),
        queues=queues(conn, config, as_of),
        questions=tuple(questions(conn)),
    )


def _standings(conn: Connection, s3: S3Client, config: Configuration, as_of: datetime) -> tuple[Standing, ...]:
    """Nothing when it takes too long, as over the backlog of a first run: the rest of the page is worth more."""
    try:
        return standings(conn, s3, config.policy, config.catalog, as_of)
    except QueryCanceled:
        log.warning("the at-risk instants are not shown: measuring them took longer than the page may take")
        return ()


def _with_risk(line: Line, standing: Standing | None, config: Configuration, as_of: datetime) -> Line:
    """The at-risk instant beside the auditor's counts; for log objects the counts too, which it does not read."""
    if standing is None:
        return line
    known = replace(
        line,
        at_risk=standing.at_risk,
        urgency=standing.state(config.policy, as_of).value,
        after_hold=standing.late.after_hold,
        counted=standing.counted,
    )
    if line.due is not None:
        return known
    return replace(known, oldest=standing.oldest, due=standing.due, overdue=standing.late.overdue)
