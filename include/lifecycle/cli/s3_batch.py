"""``lifecycle s3 batch`` and ``batch-report``: S3 Batch Operations for survivors beyond what one machine copies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lifecycle.cli.options import Json, OptionalAsOf, now
from lifecycle.cli.output import emit
from lifecycle.policy.models import Tier
from lifecycle.s3batch.request import Operation

_S3 = "s3://"


def batch(
    scope: Annotated[Tier, typer.Option("--scope", help="The tier whose survivors are meant.")],
    operation: Annotated[Operation, typer.Option("--operation", help="What is done to each of their versions.")],
    out: Annotated[str, typer.Option("--out", metavar="WHERE", help="s3://bucket/prefix, or a folder (then --place).")],
    role: Annotated[str, typer.Option("--role", metavar="ARN", help="The IAM role that the job works as.")],
    place: Annotated[
        str | None,
        typer.Option("--place", metavar="WHERE", help="s3://bucket/prefix to which a folder will be uploaded."),
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option("--tag", metavar="KEY=VALUE", help="For tag: the whole set; every other tag goes. Repeatable."),
    ] = None,
    target: Annotated[
        str | None, typer.Option("--target", metavar="WHERE", help="For copy: s3://bucket/prefix.")
    ] = None,
    priority: Annotated[int, typer.Option("--priority", min=0, max=2147483647)] = 10,
    as_of: OptionalAsOf = None,
    json: Json = False,
) -> None:
    """Write a manifest of survivors and the request of a job that copies or tags them. Starts nothing.

    Survivors are the objects behind a tier's cut-off that an exception keeps. The manifest names them, so it belongs
    where such names may lie; what is printed are counts. Written again over the same survivors, it is the same job.

    Example: `lifecycle s3 batch --scope consumer --operation copy --out s3://batch-jobs/lifecycle
    --target s3://kept-data/consumer --role arn:aws:iam::123456789012:role/lifecycle-batch`
    """
    from lifecycle.catalog.buckets import Backstop
    from lifecycle.orchestration.preview import read_only_context
    from lifecycle.s3batch.request import Job, Place
    from lifecycle.s3batch.write import write_job

    folder = None if out.startswith(_S3) else Path(out)
    if folder is not None and place is None:
        raise typer.BadParameter(
            "a folder has to be uploaded; say where to: --place s3://bucket/prefix", param_hint="--place"
        )
    tags = tuple(_pair(each) for each in tag or ())
    with read_only_context(scope.value, as_of or now()) as context:
        job = Job(
            operation=operation,
            place=Place.parse(place or out),
            role=role,
            source=context.messages.objects.bucket,
            priority=priority,
            tags=tags,
            target=Place.parse(target) if target else None,
            ticket=(context.messages.objects.backstop or Backstop()).tag,
        )
        written = write_job(context, scope, job, folder)
    emit(written.as_dict(), json, _written)


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise typer.BadParameter(f"{text!r} is no tag; write KEY=VALUE", param_hint="--tag")
    return key, value


def _written(told: dict[str, Any]) -> str:
    lines = [f"{told['objects']:,} survivor(s), {told['bytes']:,} bytes, in {told['where']}"]
    lines += [f"left out, {why.replace('_', ' ')}: {count:,}" for why, count in sorted(told["left_out"].items())]
    return "\n".join(lines)


def batch_report(
    job: Annotated[str, typer.Option("--job", metavar="WHERE", help="Where `s3 batch` wrote: s3://… or a folder.")],
    report: Annotated[
        str, typer.Option("--report", metavar="WHERE", help="manifest.json of the report: s3://bucket/key, or a file.")
    ],
    json: Json = False,
) -> None:
    """Hold the completion report of a job to its manifest and to the store, version by version. Reports only.

    What the report calls done is looked at: tags are read, copies are compared with their source. Exit code 1 unless
    all that was planned is so.

    Example: `lifecycle s3 batch-report --job s3://batch-jobs/lifecycle/TOKEN
    --report s3://batch-jobs/lifecycle/TOKEN/report/job-ID/manifest.json`
    """
    from lifecycle.orchestration.session import shared_s3_client
    from lifecycle.s3batch.report import reconcile_job

    found = reconcile_job(shared_s3_client(), job, report)
    emit(found.as_dict(), json, _reconciled)
    if not found.passed:
        raise typer.Exit(1)


def _reconciled(told: dict[str, Any]) -> str:
    lines = [
        f"{told['planned']:,} planned: {told['verified']:,} verified, {told['failed']:,} failed, "
        f"{told['missing']:,} not in the report, {told['unverified']:,} reported as done and not so in the store",
        f"in the report and never planned: {told['foreign']:,}",
    ]
    return "\n".join([*lines, *(f"  {code}: {count:,}" for code, count in sorted(told["errors"].items()))])


def prepare_export(
    run: Annotated[int, typer.Argument(metavar="RUN_ID", help="A planned run of scope records.")], json: Json = False
) -> None:
    """Write what a Spark job needs to prepare a run's log objects, to the `prepared` place of each dataset.

    Then run the job over each place that is printed; the run's `expire` takes over what it finds there.

    Example: `lifecycle s3 prepare-export 7`
    """
    from lifecycle.orchestration.prepared import export_prepared

    emit(export_prepared(run), json, _exported)


def _exported(told: dict[str, Any]) -> str:
    return "\n".join([f"{told['objects']:,} object(s) to prepare", *told["places"]])
