"""``lifecycle store``: create the reference store and fill it with a generated world."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lifecycle.cli.options import Json, OptionalAsOf, now
from lifecycle.cli.output import Advance, emit, progress
from lifecycle.config import load_configuration
from lifecycle.connections import postgres_conninfo, s3_client

if TYPE_CHECKING:
    from rich.table import Table

    from reference_store.seed import Progress

store_app = typer.Typer(no_args_is_help=True, help="Create and fill the reference store.")


def register(app: typer.Typer) -> None:
    app.add_typer(store_app, name="store")


@store_app.command()
def create(json: Json = False) -> None:
    """Create the schemas app, research and lifecycle and the five buckets; what exists is left as it is.

    Example: `lifecycle store create`
    """
    from reference_store.create import bucket_specs, create_store

    catalog = load_configuration().catalog
    create_store(postgres_conninfo(), s3_client(), catalog)
    buckets = [spec.name for spec in bucket_specs(catalog)]
    data = {"schemas": ["app", "research", "lifecycle"], "buckets": buckets}
    emit(data, json, lambda _: f"schemas app, research and lifecycle and buckets {', '.join(buckets)} are there")


@store_app.command()
def seed(
    accounts: Annotated[int, typer.Option("--accounts", min=1, metavar="N", help="Number of accounts.")] = 500,
    days: Annotated[int, typer.Option("--days", min=1, metavar="D", help="Days of traffic before T.")] = 120,
    as_of: OptionalAsOf = None,
    seed: Annotated[int, typer.Option("--seed", metavar="S", help="Same seed, sizes and T: the same world.")] = 1,
    messages: Annotated[
        int | None, typer.Option("--messages", min=0, metavar="M", help="About so many messages [default: 100 * N].")
    ] = None,
    objects: Annotated[
        int | None, typer.Option("--objects", min=0, metavar="O", help="So many bodies in S3 [default: 5% of M].")
    ] = None,
    json: Json = False,
) -> None:
    """Fill the store with a believable world that has every rule and exception in it; everything lies before T.

    The store must exist (`lifecycle store create`). Rows appear all together at the end. Without --as-of, T is now.

    Example: `lifecycle store seed --accounts 2000 --days 120 --as-of 2026-09-01T00:00:00Z --seed 7`
    """
    from reference_store.seed import MESSAGES_PER_ACCOUNT, seed_store

    began, instant = time.monotonic(), as_of or now()
    with _bar(messages if messages is not None else accounts * MESSAGES_PER_ACCOUNT) as report:
        done = seed_store(
            postgres_conninfo(),
            s3_client(),
            accounts=accounts,
            days=days,
            as_of=instant,
            seed=seed,
            messages=messages,
            objects=objects,
            progress=report,
        )
    data = {**done.as_dict(), "as_of": instant, "seed": seed, "seconds": round(time.monotonic() - began, 1)}
    emit(data, json, _table)


@contextmanager
def _bar(total: int) -> Iterator[Progress]:
    """The generator's reports (stage, done, total) as steps of the shared progress bar."""
    with progress("seeding messages", total) as advance:
        yield _steps(advance)


def _steps(advance: Advance) -> Progress:
    shown = 0

    def report(stage: str, done: int, _total: int) -> None:
        nonlocal shown
        if stage == "messages":
            advance(done - shown)
            shown = done
        else:
            advance(0, note=stage)

    return report


def _table(data: dict[str, Any]) -> Table:
    from rich.table import Table

    table = Table("what", "count", title="Seeded")
    table.columns[1].justify = "right"
    for name, count in sorted(data["rows"].items()):
        table.add_row(name, f"{count:,}")
    for name, label in (
        ("partitions", "day partitions"),
        ("objects", "objects in product-data"),
        ("parts", "objects in product-logs"),
        ("log_lines", "lines in product-logs"),
    ):
        table.add_row(label, f"{data[name]:,}")
    table.caption = f"{data['seconds']} s"
    return table
