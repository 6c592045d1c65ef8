"""``lifecycle s3``: the rules that S3 itself carries out, and what keeps exceptions out of their reach."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lifecycle.cli.options import Json, OptionalAsOf, now
from lifecycle.cli.output import emit, say
from lifecycle.cli.s3_batch import batch, batch_report, prepare_export
from lifecycle.cli.targets import login_name

if TYPE_CHECKING:
    from lifecycle.backstop.standing import BucketStanding

s3_app = typer.Typer(
    no_args_is_help=True, help="S3: the native backstop, the shield before it, and what needs a person."
)
_SIGNS = {"add": "+", "change": "~", "remove": "-"}


s3_app.command()(batch)
s3_app.command()(batch_report)
s3_app.command()(prepare_export)


def register(app: typer.Typer) -> None:
    app.add_typer(s3_app, name="s3")


@s3_app.command()
def backstop(
    apply: Annotated[bool, typer.Option("--apply", help="Put our rules into the buckets. Needs --by.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Take our rules, only ours, out. Needs --by.")] = False,
    by: Annotated[str | None, typer.Option("--by", metavar="NAME", help="Who decides; kept in the ledger.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; for scripts.")] = False,
    json: Json = False,
) -> None:
    """Show the lifecycle rules that policy and datasets ask of S3, against those in the buckets; apply or remove them.

    Without options changes nothing. Exit code 1 when rules have drifted, or somebody else's remove what must stay.

    Example: `lifecycle s3 backstop --apply --by "j.doe"`
    """
    from lifecycle.backstop.standing import standings
    from lifecycle.config import load_configuration
    from lifecycle.orchestration.backstop import apply_backstop, remove_backstop
    from lifecycle.orchestration.schema import ensure_schema
    from lifecycle.orchestration.session import shared_s3_client
    from lifecycle.stores.postgres.connect import connect

    if apply and remove:
        raise typer.BadParameter("it is either --apply or --remove")
    who = (by or "").strip()
    if (apply or remove) and not who:
        raise typer.BadParameter("say who decides, for example --by j.doe", param_hint="--by")
    config, s3 = load_configuration(), shared_s3_client()
    changed: list[str] = []
    with connect() as conn:
        found = standings(conn, s3, config)
        if apply or remove:
            ensure_schema(conn)
            if not yes:
                _confirm(config, found, remove=remove)
            act = remove_backstop if remove else apply_backstop
            changed = act(conn, s3, config, by=who, asked_by=login_name(), now=now())
            found = standings(conn, s3, config)
    data = _as_dict(config, found) | {"changed": changed}
    emit(data, json, _text)
    if not data["passed"]:
        raise typer.Exit(1)


def _confirm(config: Any, found: tuple[BucketStanding, ...], *, remove: bool) -> None:
    if not sys.stdin.isatty():
        raise typer.BadParameter("nobody can be asked here; add --yes", param_hint="--yes")
    if not remove:
        say(_lines(_as_dict(config, found)))
    typer.confirm("Take our rules out of these buckets?" if remove else "Apply these rules?", abort=True, err=True)


def _as_dict(config: Any, found: tuple[BucketStanding, ...]) -> dict[str, Any]:
    from lifecycle.backstop.compile import compile_backstop
    from lifecycle.backstop.models import shown
    from lifecycle.backstop.native import outlook

    compiled = compile_backstop(config.policy, config.catalog)
    return {
        "passed": not any(each.findings for each in found),
        "native": outlook(config.policy, config.catalog),
        "buckets": [
            {
                "bucket": each.bucket,
                "readable": each.current is not None,
                "in_force": each.in_force,
                "places": [shown(place) for place in compiled.of(each.bucket)],
                "changes": [
                    {"id": change.id, "kind": change.kind, "before": change.before, "after": change.after}
                    for change in each.changes
                ],
                "findings": [{"rule": item.rule, "what": item.what, "remedy": item.remedy} for item in each.findings],
                "notes": list(each.notes),
                "days": [
                    {
                        "prefix": day.prefix,
                        "expire_days": day.days,
                        "rule": day.rule,
                        "objects": day.objects,
                        "placed_at": day.placed_at,
                    }
                    for day in each.days
                ],
            }
            for each in found
        ],
    }


def _text(data: dict[str, Any]) -> Any:
    from rich.text import Text

    return Text(_lines(data), no_wrap=True, overflow="ignore")


def _lines(data: dict[str, Any]) -> str:
    lines: list[str] = []
    for tier, because in data["native"].items():
        told = f"none, because {because}" if because else "each that no exception names, once all of it is due"
        lines += [f"days of {tier} that are left to S3 (expire: native): {told}"]
    for bucket in data["buckets"]:
        state = "applied" if bucket["in_force"] else "not applied"
        lines += [f"{bucket['bucket']} ({state if bucket['readable'] else 'its rules may not be read'})"]
        for place in bucket["places"]:
            lines += [f"  {place['name']}: {_outcome(place)}"]
            lines += [f"    because {reason}" for reason in place["because"]]
            lines += [f"    -> {place['remedy']}"] if place["remedy"] else []
        for day in bucket["days"]:
            since = f"{day['placed_at']:%Y-%m-%d %H:%M} UTC"
            lines += [f"  {day['prefix']}: left to S3 since {since}, {day['objects']:,} object(s) then"]
        for change in bucket["changes"]:
            after = change["after"] or change["before"]
            lines += [f"  {_SIGNS[change['kind']]} {change['id']} {_actions(after)}"]
        for item in bucket["findings"]:
            lines += [f"  ! {item['rule']}: {item['what']}", f"    -> {item['remedy']}"]
        lines += [f"  note: {note}" for note in bucket["notes"]]
    wrong = sum(len(bucket["findings"]) for bucket in data["buckets"])
    pending = sum(len(bucket["changes"]) for bucket in data["buckets"])
    return "\n".join([*lines, "", f"{pending} change(s) to apply, {wrong} thing(s) wrong."])


def _outcome(place: dict[str, Any]) -> str:
    for rule in place["rules"]:
        if rule["expire_days"] is not None:
            # Rounded up to midnight, then hidden for a day, and rounded up again.
            gone = rule["expire_days"] + rule["noncurrent_days"] + 2
            return f"S3 expires what has a ticket after {rule['expire_days']} days, and has forgotten it by day {gone}"
    return "S3 expires nothing" + (", and tidies up leftovers" if place["rules"] else "")


def _actions(rule: dict[str, Any]) -> str:
    ends, parts = rule.get("Expiration", {}), []
    if "Days" in ends:
        parts.append(f"expire after {ends['Days']} d")
    if ends.get("ExpiredObjectDeleteMarker"):
        parts.append("drop lone delete markers")
    if "NoncurrentVersionExpiration" in rule:
        parts.append(f"noncurrent after {rule['NoncurrentVersionExpiration']['NoncurrentDays']} d")
    if "AbortIncompleteMultipartUpload" in rule:
        parts.append(f"abort uploads after {rule['AbortIncompleteMultipartUpload']['DaysAfterInitiation']} d")
    scope = rule["Filter"]
    tags = "".join(f" with {key}={value}" for key, value in scope.get("Tags", []))
    return f"{scope['Prefix'] or 'whole bucket'}{tags}: {', '.join(parts)}"


@s3_app.command()
def shield(as_of: OptionalAsOf = None, json: Json = False) -> None:
    """Take what a hold, a case, a flag, a consent or an agreement names out of the reach of S3's own rules.

    Its objects lose their tickets, and a rule for a day that it names goes whole (`expire: native`).

    Destroys nothing and needs no run: let cron do it every hour, so that it goes on while Airflow is down.

    Example: `lifecycle s3 shield`
    """
    from lifecycle.config import load_configuration
    from lifecycle.dispositions.native_rules import give_back
    from lifecycle.dispositions.shield import shield as take
    from lifecycle.orchestration.session import shared_s3_client
    from lifecycle.policy.models import Tier
    from lifecycle.stores.postgres.connect import connect

    config, s3, tiers, at = load_configuration(), shared_s3_client(), tuple(Tier), as_of or now()
    with connect() as conn:
        days = give_back(conn, s3, [(config.policy, config.catalog)], tiers, at, config.policy_hash, by=login_name())
        found = take(conn, s3, config.policy, config.catalog, tiers, at)
    data = {"objects": found.objects, "taken": found.taken, "days": days}
    emit(data, json, _shielded)


def _shielded(told: dict[str, Any]) -> str:
    taken = f"{told['taken']} ticket(s) taken, {told['objects']} look(s) at objects"
    return f"{taken}, {told['days']} day(s) taken back from S3" if told["days"] else taken


@s3_app.command()
def reconcile(
    inventory: Annotated[
        str | None,
        typer.Option(
            "--inventory", metavar="WHERE", help="manifest.json of an S3 Inventory: a file, or s3://bucket/key."
        ),
    ] = None,
    memory: Annotated[int, typer.Option("--memory", metavar="MB", min=64, help="What DuckDB may take.")] = 256,
    as_of: OptionalAsOf = None,
    json: Json = False,
) -> None:
    """Compare the rows of messages with their objects, in both directions, out of core. Reports only.

    Objects come from a listing or, without any request per object, from an inventory (CSV, ORC, Parquet). Exit code 1
    when they do not agree. Counts and names of partitions; no keys.

    Example: `lifecycle s3 reconcile --inventory s3://inventories/product-data/all/2026-11-01T01-00Z/manifest.json`
    """
    from lifecycle.config import load_configuration
    from lifecycle.orchestration.session import shared_s3_client
    from lifecycle.reconcile.run import reconcile_messages
    from lifecycle.stores.postgres.connect import connect

    config = load_configuration()
    with connect() as conn:
        found = reconcile_messages(conn, shared_s3_client(), config, as_of or now(), inventory, memory)
    emit(found.as_dict(), json, _reconciled)
    if not found.passed:
        raise typer.Exit(1)


def _reconciled(told: dict[str, Any]) -> str:
    ages = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in told["orphans"].items())
    lines = [
        f"{told['keys']:,} keys and {told['rows']:,} rows, in {told['partitions']:,} partitions",
        f"objects without a row: {ages}; {told['orphans_past_margin']:,} past the margin, "
        f"{told['hidden_orphans']:,} hidden below a delete marker",
        f"rows without an object: {told['dangling']:,}; objects that several rows name: {told['shared']:,}",
        f"keys that say another tier: {told['wrong_tier']:,}, day: {told['wrong_day']:,}, record: "
        f"{told['wrong_record']:,}; that say nothing: {told['unreadable_keys']:,}",
    ]
    lines += [f"  {each['tier']} {each['day']}: {each['objects']:,} objects, {each['rows']:,} rows"
              for each in told["differing"]]  # fmt: skip
    return "\n".join(lines)


@s3_app.command()
def unclassified(
    dataset: Annotated[str | None, typer.Option("--dataset", metavar="ID", help="Only this one.")] = None,
    most: Annotated[int, typer.Option("--most", metavar="N", min=1, help="How many to name.")] = 100,
    json: Json = False,
) -> None:
    """Name the objects of many records that cannot be read, or whose records lack something, and what to do.

    Shows keys, to you alone: they go to no log, result or table. Reads every object that no run has read whole as it
    stands; changes nothing. Exit code 1 when an object cannot be read: its records outlive their deadline until you
    act.

    Example: `lifecycle s3 unclassified --dataset request_logs`
    """
    from lifecycle.config import load_configuration
    from lifecycle.orchestration.doubtful import search
    from lifecycle.orchestration.schema import ensure_schema
    from lifecycle.orchestration.session import shared_s3_client
    from lifecycle.stores.postgres.connect import connect

    logs = load_configuration().catalog.logs
    chosen = tuple(each for each in logs if dataset in (None, each.id))
    if dataset is not None and not chosen:
        names = ", ".join(each.id for each in logs) or "there is none"
        raise typer.BadParameter(f"there is no dataset of objects {dataset!r}; choose: {names}", param_hint="--dataset")
    with connect() as conn:
        ensure_schema(conn)
        found = search(conn, shared_s3_client(), chosen, most)
    shown = [{"dataset": each.id, "bucket": each.bucket, **asdict(doubt)} for each, doubt in found.objects]
    counts = {"unreadable": found.unreadable, "doubtful": found.doubtful, "read": found.read, "known": found.known}
    emit({"passed": not found.unreadable, **counts, "objects": shown}, json, _doubts)
    if found.unreadable:
        raise typer.Exit(1)


def _doubts(told: dict[str, Any]) -> Any:
    from rich.text import Text

    lines: list[str] = []
    for each in told["objects"]:
        older = "" if each["latest"] else f" (older version {each['version_id']})"
        lacking = f"{each['unclassified']:,} of {each['records']:,} record(s) lack an id, an account, a tier or a time"
        lines += [f"{each['bucket']}/{each['key']}{older}", f"  {each['fault'] or lacking}", f"  -> {each['remedy']}"]
    named = told["unreadable"] + told["doubtful"] - len(told["objects"])
    lines += [f"and {named:,} more; see --most"] if named else []
    lines += [
        f"{told['unreadable']:,} cannot be read, {told['doubtful']:,} hold records that lack something; "
        f"{told['read']:,} object(s) read, {told['known']:,} known to be whole"
    ]
    return Text("\n".join(lines), no_wrap=True, overflow="ignore")
