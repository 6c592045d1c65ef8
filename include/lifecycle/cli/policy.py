"""``lifecycle policy``: check, describe and show the rules; changing them is in policy_change.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lifecycle.cli import policy_change
from lifecycle.cli.options import DatasetsFile, Json, PolicyFile
from lifecycle.cli.output import emit, say, stdout_console, to_json
from lifecycle.config import Configuration, load_configuration
from lifecycle.errors import ConfigurationError, PreconditionError

if TYPE_CHECKING:
    from lifecycle.stores.postgres.indexes import MissingIndex

policy_app = typer.Typer(no_args_is_help=True, help="Check, describe, compare and approve the rules.")


def register(app: typer.Typer) -> None:
    policy_change.register(policy_app)
    app.add_typer(policy_app, name="policy")


@policy_app.command()
def validate(
    policy: PolicyFile = None,
    datasets: DatasetsFile = None,
    connect: Annotated[
        bool, typer.Option("--connect", help="Look into the database too: types of columns, and indexes.")
    ] = False,
    json: Json = False,
) -> None:
    """Check the policy and the dataset file, and that they fit together. Exit code 2 when they do not.

    With --connect also look at the database: a missing column, or an id or a clock that is not of the type that the
    dataset file says, is a problem, told with the line to write. A table without an index on its clock is a warning,
    with the statement that makes one; so are a table from which PostgreSQL lets nobody delete, and whatever copies rows
    of the tables elsewhere.

    Example: `lifecycle policy validate --policy include/policies/retention.yaml --connect`
    """
    try:
        config = load_configuration(policy, datasets)
    except ConfigurationError as error:
        if not json:
            raise
        print_json({"valid": False, "problems": error.problems})
        raise typer.Exit(2) from None
    found = {"valid": True, "problems": [], **_identity(config)}
    if connect:
        found["problems"], found["missing_indexes"] = _unfit(config), _missing_indexes(config)
        found["in_the_way"], found["second_copies"] = _outside(config)
        found["valid"] = not found["problems"]
        if found["problems"] and not json:
            raise PreconditionError("; ".join(f"{each['message']}. {each['remedy']}" for each in found["problems"]))
    emit(found, json, lambda _: _sound(config))
    for warned in ("missing_indexes", "in_the_way", "second_copies"):
        for each in found.get(warned, ()):
            say(f"warning: {each}")
    if not found["valid"]:
        raise typer.Exit(2)


def _unfit(config: Configuration) -> list[dict[str, Any]]:
    from lifecycle.stores.postgres.columns import misfits
    from lifecycle.stores.postgres.connect import connect
    from lifecycle.stores.postgres.stage_indexes import unfit_for_stages
    from lifecycle.stores.postgres.tier_columns import unfit_for_tiers

    with connect() as conn:
        catalog = config.catalog
        found = [*misfits(conn, catalog), *unfit_for_stages(conn, catalog), *unfit_for_tiers(conn, catalog)]
    return [
        {
            "file": config.catalog_path,
            "line": None,
            "field": f"{misfit.dataset}.{misfit.field}",
            "message": misfit.message,
            "remedy": misfit.remedy,
        }
        for misfit in found
    ]


def _missing_indexes(config: Configuration) -> list[MissingIndex]:
    from lifecycle.stores.postgres.connect import connect
    from lifecycle.stores.postgres.indexes import missing_indexes
    from lifecycle.stores.postgres.stage_indexes import missing_for_stages
    from lifecycle.stores.postgres.tier_columns import missing_for_tiers

    with connect() as conn:
        catalog = config.catalog
        return [*missing_indexes(conn, catalog), *missing_for_stages(conn, catalog), *missing_for_tiers(conn, catalog)]


def _outside(config: Configuration) -> tuple[list[str], list[str]]:
    """What else in the database concerns the tables: what forbids every deletion, and what copies rows elsewhere."""
    from lifecycle.catalog.exclusions import bound_tables
    from lifecycle.cli.options import now
    from lifecycle.coverage.check import undeclared_copies
    from lifecycle.stores.postgres.connect import connect
    from lifecycle.stores.postgres.published import undeletable

    with connect() as conn:
        return undeletable(conn, sorted(bound_tables(config.catalog))), list(undeclared_copies(conn, config, now()))


def print_json(data: Any) -> None:
    typer.echo(to_json(data))


def _identity(config: Configuration) -> dict[str, Any]:
    return {
        "policy": {"path": config.policy_path, "sha256": config.policy_hash, "rules": len(config.policy.rules)},
        "datasets": {
            "path": config.catalog_path,
            "sha256": config.catalog_hash,
            "datasets": len(config.catalog.datasets),
        },
    }


def _sound(config: Configuration) -> str:
    return (
        f"{config.policy_path}: sound, {len(config.policy.rules)} rules, sha256 {config.policy_hash[:12]}\n"
        f"{config.catalog_path}: sound, {len(config.catalog.datasets)} datasets, sha256 {config.catalog_hash[:12]}"
    )


@policy_app.command()
def schema(
    datasets: Annotated[bool, typer.Option("--datasets", help="Of dataset files instead of policy files.")] = False,
) -> None:
    """Print the JSON Schema of policy files, for editors and for checks in CI.

    Example: `lifecycle policy schema > retention.schema.json`
    """
    from lifecycle.catalog.models import Catalog
    from lifecycle.policy.models import Policy

    described = (Catalog if datasets else Policy).model_json_schema()
    title = "Dataset file of the lifecycle project" if datasets else "Policy file of the lifecycle project"
    print_json({"$schema": "https://json-schema.org/draft/2020-12/schema", **described, "title": title})


@policy_app.command()
def show(policy: PolicyFile = None, datasets: DatasetsFile = None, json: Json = False) -> None:
    """Show every rule with its tiers, period, kind, disposition and basis, and the lead term by term.

    Example: `lifecycle policy show --json`
    """
    config = load_configuration(policy, datasets)
    rules = config.policy
    data = {
        "name": rules.name,
        "version": rules.version,
        "sha256": config.policy_hash,
        "lead": {
            **{name: getattr(rules.lead, name) for name in type(rules.lead).model_fields},
            "total": rules.lead.total,
        },
        "thresholds": rules.thresholds,
        "approval": rules.approval,
        "limits": rules.limits,
        "locked": rules.locked,
        "precedence": rules.precedence,
        "rules": rules.rules,
    }
    if json:
        print_json(data)
        return
    console = stdout_console()
    console.print(_rules_table(config))
    console.print(_lead_table(config))
    console.print(f"Precedence, highest first: {', '.join(rules.precedence)}")


def _rules_table(config: Configuration) -> Any:
    from rich.table import Table

    table = Table(title=f"{config.policy.name} (sha256 {config.policy_hash[:12]})")
    for heading in ("rule", "tiers", "what", "period", "kind", "from", "then", "basis"):
        table.add_column(heading, overflow="fold")
    for rule in config.policy.rules:
        tiers = "all" if len(set(rule.tiers)) == 4 else ", ".join(rule.tiers)
        instead = f" (instead of {rule.instead_of})" if rule.instead_of else ""
        table.add_row(
            rule.id,
            tiers,
            ", ".join(rule.category),
            str(rule.period) if rule.period is not None else "-",
            rule.kind.value,
            rule.clock,
            rule.disposition.value + instead,
            rule.basis,
        )
    return table


def _lead_table(config: Configuration) -> Any:
    from rich.table import Table

    lead = config.policy.lead
    table = Table(title="Lead: how far the cut-off of a maximum runs ahead of its deadline")
    table.add_column("term")
    table.add_column("length")
    for name in type(lead).model_fields:
        table.add_row(name, str(getattr(lead, name)))
    table.add_row("total", str(lead.total))
    return table
