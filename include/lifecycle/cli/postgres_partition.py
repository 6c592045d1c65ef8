"""``lifecycle postgres partition``: an ordinary table becomes a partitioned one while it is in use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lifecycle.cli.options import Json, now
from lifecycle.cli.output import emit, progress, say
from lifecycle.errors import PreconditionError
from lifecycle.policy.models import Tier
from lifecycle.policy.periods import Period

if TYPE_CHECKING:
    from lifecycle.stores.postgres.connect import Connection
    from lifecycle.stores.postgres.online.facts import Name
    from lifecycle.stores.postgres.online.plan import Plan
    from lifecycle.stores.postgres.online.state import Partitioning
    from lifecycle.stores.postgres.online.work import Work

_MIN_TARGET, _MAX_TARGET = 0.01, 10.0
_STATEMENTS_SHOWN = 6


class Width(StrEnum):
    DAY = "day"
    MONTH = "month"


def attach(app: typer.Typer) -> None:
    app.command("partition")(partition)


def _period(text: str | Period) -> Period:
    if isinstance(text, Period):
        return text
    try:
        found = Period.parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if found.longest() < timedelta(days=1) or found.longest() > timedelta(days=366):
        raise typer.BadParameter(f"{text} is not between a day and a year; write for example P7D")
    return found


Clock = Annotated[
    str | None, typer.Option("--clock", metavar="COLUMN", help="The column a day is taken from (UTC); needed to begin.")
]
TierColumn = Annotated[
    str | None,
    typer.Option("--tier", metavar="COLUMN", help="The column of the product tier: by tier first, then by day."),
]
Ahead = Annotated[
    Period, typer.Option("--ahead", parser=_period, metavar="PERIOD", help="Partitions for so many days to come.")
]
Target = Annotated[
    float,
    typer.Option(
        "--batch-target", metavar="SECONDS", min=_MIN_TARGET, max=_MAX_TARGET, help="How long a page may take."
    ),
]
Wait = Annotated[
    float, typer.Option("--patience", metavar="SECONDS", min=1.0, help="How long to try for locks, all in all.")
]
LockTimeout = Annotated[
    int, typer.Option("--lock-timeout", metavar="MS", min=10, max=900, help="How long one try may queue for a lock.")
]


def partition(
    table: Annotated[str, typer.Argument(metavar="TABLE", help='schema.table; quote capitals: app."Messages".')],
    clock: Clock = None,
    tier: TierColumn = None,
    interval: Annotated[Width, typer.Option("--interval", help="How much time a partition covers.")] = Width.DAY,
    ahead: Ahead = Period(days=7),
    plan: Annotated[
        bool, typer.Option("--plan", help="Print steps, SQL, locks and estimates; change nothing.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with what was begun.")] = False,
    revert: Annotated[bool, typer.Option("--revert", help="Back to the ordinary table, with all its rows.")] = False,
    finish: Annotated[bool, typer.Option("--finish", help="Drop the ordinary table; no way back after that.")] = False,
    accept_weaker_uniqueness: Annotated[
        bool, typer.Option("--accept-weaker-uniqueness", help="The old key need no longer be unique by itself.")
    ] = False,
    accept_lost_foreign_keys: Annotated[
        bool, typer.Option("--accept-lost-foreign-keys", help="Foreign keys that cannot be extended are dropped.")
    ] = False,
    batch_target: Target = 0.25,
    patience: Wait = 600.0,
    lock_timeout: LockTimeout = 400,
    json: Json = False,
) -> None:
    """Turn an ordinary table into one partitioned by tier and UTC day, or by day alone, while it is in use.

    Stops when the partitioned table has taken over; the ordinary one is kept up to date until --finish drops it.

    Example: `lifecycle postgres partition app.messages --clock received_at --tier tier --plan`
    """
    from lifecycle.stores.postgres.online import convert, filling, switch
    from lifecycle.stores.postgres.online.locks import alone
    from lifecycle.stores.postgres.online.plan import make_plan
    from lifecycle.stores.postgres.online.refusals import Accepted
    from lifecycle.stores.postgres.online.state import Phase, open_partitioning

    if sum((plan, resume, revert, finish)) > 1:
        raise typer.BadParameter("choose one of --plan, --resume, --revert and --finish")
    accepted = Accepted(accept_weaker_uniqueness, accept_lost_foreign_keys)
    with _connection(table) as (conn, name):
        work = _work(conn, batch_target, patience, lock_timeout)
        if plan:
            layout = _layout(name, clock, tier, interval)
            found = make_plan(work, layout, ahead=ahead.longest(), accepted=accepted)
            emit(found, json, _plan_text)
            if found.refusals:
                say(f"{len(found.refusals)} reason(s) against it; nothing was changed.")
                raise typer.Exit(1)
            return
        with alone(conn, name), _told(work) as work:
            under_way = open_partitioning(conn, name)
            _refuse_what_does_not_fit(name, under_way, begin=not (resume or revert or finish))
            if revert and under_way is not None:
                switch.revert(work, under_way)
                phase, copied = Phase.REVERTED, under_way.copied
            elif finish and under_way is not None:
                switch.finish(work, under_way)
                phase, copied = Phase.FINISHED, under_way.copied
            else:
                if under_way is None:
                    from lifecycle.orchestration.schema import ensure_schema

                    ensure_schema(conn)
                    layout = _layout(name, clock, tier, interval)
                    under_way = filling.start(work, layout, ahead=ahead.longest(), accepted=accepted)
                under_way = convert.advance(work, under_way)
                phase, copied = under_way.phase, under_way.copied
    data = {"table": str(name), "phase": phase, "copied": copied, "next": _NEXT.get(phase.value)}
    emit(data, json, _outcome_text)


_NEXT = {
    "switched": "it is partitioned; the ordinary table is kept up. --finish drops it, --revert goes back",
    "finished": "the ordinary table is gone",
    "reverted": "it is the ordinary table that it was",
}


@contextmanager
def _connection(table: str) -> Iterator[tuple[Connection, Name]]:
    from lifecycle.stores.postgres.connect import connect
    from lifecycle.stores.postgres.online.read import resolve
    from lifecycle.stores.postgres.online.work import session

    with connect() as conn:
        session(conn)
        yield conn, resolve(conn, table)


def _work(conn: Connection, target: float, patience: float, lock_ms: int) -> Work:
    from lifecycle.stores.postgres.online.locks import Patience
    from lifecycle.stores.postgres.online.work import Work

    return Work(conn, now(), Patience(lock_ms, patience), target)


@contextmanager
def _told(work: Work) -> Iterator[Work]:
    from dataclasses import replace

    with progress("rows copied and compared") as advance:

        def report(step: str, count: int) -> None:
            advance(count if step in ("copied", "compared") else 0, note=step)

        yield replace(work, report=report)


def _layout(name: Name, clock: str | None, tier: str | None, interval: Width) -> Any:
    from lifecycle.stores.postgres.online.layout import Interval, Layout

    if clock is None:
        raise typer.BadParameter("name the column that tells when a row came: --clock COLUMN", param_hint="--clock")
    tiers = tuple(value.value for value in Tier) if tier is not None else ()
    return Layout(name, clock, tier, tiers, Interval(interval.value))


def _refuse_what_does_not_fit(name: Name, under_way: Partitioning | None, *, begin: bool) -> None:
    if begin and under_way is not None:
        raise PreconditionError(
            f"the partitioning of {name} has begun (it is {under_way.phase}); go on with --resume, "
            "or take it back with --revert"
        )
    if not begin and under_way is None:
        raise PreconditionError(f"no partitioning of {name} is under way; begin with --clock COLUMN")


def _outcome_text(data: dict[str, Any]) -> str:
    then = data["next"] or "go on with --resume"
    return f"{data['table']}: {data['phase'].value}, {data['copied']:,} rows copied; {then}"


def _plan_text(plan: Plan) -> Any:
    """SQL must come out as it is: no folding, no markup."""
    from rich.text import Text

    lines = [f"Partitioning {plan.table}", ""]
    if plan.refusals:
        lines += ["It cannot be done as it stands:", *[f"  - {refusal}" for refusal in plan.refusals], ""]
    if plan.primary_key:
        lines.append(f"primary key afterwards: ({', '.join(plan.primary_key)})")
    if plan.no_longer_unique:
        lines.append(f"no longer unique over the whole table: {', '.join(plan.no_longer_unique)}")
    if (guess := plan.estimate) is not None:
        seconds = "unknown" if guess.seconds is None else f"about {guess.seconds:,} s"
        lines.append(
            f"estimate: {guess.rows:,} rows, {guess.bytes / 2**20:,.0f} MiB (needed once more), {guess.partitions:,} "
            f"partitions; copying {seconds}, from {guess.sample_rows:,} rows read in {guess.sample_seconds} s"
        )
    for number, step in enumerate(plan.steps, 1):
        lines += ["", f"{number}. {step.name}: {step.what}", f"   lock: {step.lock}", f"   waits: {step.blocks}"]
        lines += [f"     {text};" for text in step.sql[:_STATEMENTS_SHOWN]]
        if (more := len(step.sql) - _STATEMENTS_SHOWN) > 0:
            lines.append(f"     ... and {more:,} more (--json prints them all)")
    return Text("\n".join(lines), no_wrap=True, overflow="ignore")
