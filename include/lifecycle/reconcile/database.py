"""The scratch database: objects and rows go in by batches, DuckDB spills to disk beyond its memory limit."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifecycle.catalog.models import Messages
from lifecycle.reconcile.inventory import Format, Inventory
from lifecycle.stores.postgres.connect import Connection

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from mypy_boto3_s3 import S3Client

BATCH = 20_000
_OBJECTS = "key VARCHAR, latest BOOLEAN, marker BOOLEAN, modified TIMESTAMPTZ"
_ROWS = "key VARCHAR, record VARCHAR, tier VARCHAR, day DATE"
_TRUE = "('true', 't', '1')"


class Scratch:
    """A DuckDB file in a folder of its own, with the tables ``objects`` and ``records``."""

    def __init__(self, duck: DuckDBPyConnection, folder: Path) -> None:
        self.duck, self.folder = duck, folder
        duck.execute(f"CREATE TABLE objects ({_OBJECTS})")
        duck.execute(f"CREATE TABLE records ({_ROWS})")

    def value(self, query: str, params: Sequence[Any] = ()) -> Any:
        row = self.duck.execute(query, list(params)).fetchone()
        return row[0] if row is not None else None

    # -- objects

    def list_bucket(self, s3: S3Client, bucket: str, prefixes: Sequence[str]) -> None:
        """Every version and delete marker below some prefixes."""
        from lifecycle.stores.s3.versions import iter_versions

        for prefix in prefixes:
            found = ((v.key, v.is_latest, v.is_marker, v.last_modified) for v in iter_versions(s3, bucket, prefix))
            self.insert("objects", ("key", "latest", "marker", "modified"), found)

    def load_inventory(self, inventory: Inventory) -> None:
        """Every data file of an inventory, one after the other."""
        for data in inventory.manifest.files:
            with inventory.file(data, self.folder) as path:
                match inventory.manifest.format:
                    case Format.CSV:
                        self._load_csv(path, inventory.manifest.columns)
                    case Format.PARQUET:
                        self._select(f"read_parquet({_quoted(path)})", self._names(f"read_parquet({_quoted(path)})"))
                    case Format.ORC:
                        self._load_orc(path)

    def _load_csv(self, path: Path, columns: Sequence[str]) -> None:
        """Keys are percent-encoded there, and blanks may be ``+``."""
        named = ", ".join(f"'{_snake(name)}': 'VARCHAR'" for name in columns)
        source = f"read_csv({_quoted(path)}, header=false, quote='\"', escape='\"', columns={{{named}}})"
        self._select(source, {_snake(name) for name in columns}, key="url_decode(replace(key, '+', ' '))")

    def _load_orc(self, path: Path) -> None:
        import pyarrow as pa
        from pyarrow import orc

        file = orc.ORCFile(str(path))
        for stripe in range(file.nstripes):
            batch = pa.Table.from_batches([file.read_stripe(stripe)])
            self.duck.register("stripe", batch)
            self._select("stripe", set(batch.column_names))
            self.duck.unregister("stripe")

    def _names(self, source: str) -> set[str]:
        return {str(row[0]) for row in self.duck.execute(f"DESCRIBE FROM {source}").fetchall()}

    def _select(self, source: str, columns: set[str], key: str = "key") -> None:
        latest = f"lower(is_latest::VARCHAR) IN {_TRUE}" if "is_latest" in columns else "true"
        marker = f"lower(is_delete_marker::VARCHAR) IN {_TRUE}" if "is_delete_marker" in columns else "false"
        self.duck.execute(
            f"INSERT INTO objects SELECT {key}, {latest}, {marker}, last_modified_date::TIMESTAMPTZ FROM {source}"  # noqa: S608 - names of our own
        )

    # -- rows

    def load_rows(self, conn: Connection, dataset: Messages, as_of: Any) -> None:
        """Rows of messages that name an object and arrived before an instant."""
        from psycopg import sql

        from lifecycle.stores.postgres.clocks import ClockSql

        clock = ClockSql.of(dataset.clock, "m")
        query = sql.SQL(
            "SELECT m.{key}, m.{record}::text, m.{tier}, ({clock} AT TIME ZONE 'UTC')::date FROM {table} m"
            " WHERE m.{key} IS NOT NULL AND {arrived}"
        ).format(
            key=sql.Identifier(dataset.objects.column),
            record=sql.Identifier(dataset.record),
            tier=sql.Identifier(dataset.tier),
            clock=clock.instant,
            arrived=clock.before(sql.SQL("%(as_of)s")),
            table=sql.Identifier(*dataset.table.split(".", 1)),
        )
        with conn.transaction(), conn.cursor(name="reconcile") as cursor:
            cursor.itersize = BATCH
            cursor.execute(query, {"as_of": as_of})
            self.insert("records", ("key", "record", "tier", "day"), cursor)

    def insert(self, table: str, names: Sequence[str], rows: Any) -> None:
        """By Arrow batches, so that no list of all keys is ever in memory."""
        import pyarrow as pa

        stream = iter(rows)
        while batch := list(islice(stream, BATCH)):
            columns = [pa.array(column) for column in zip(*batch, strict=True)]
            self.duck.register("batch", pa.Table.from_arrays(columns, names=list(names)))
            self.duck.execute(f"INSERT INTO {table} SELECT * FROM batch")  # noqa: S608 - one of two names
            self.duck.unregister("batch")


def _snake(name: str) -> str:
    """``IsDeleteMarker`` of a CSV manifest as ORC and Parquet call it: ``is_delete_marker``."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


@contextmanager
def scratch(memory_mb: int) -> Iterator[Scratch]:
    """A scratch database within a memory limit; gone afterwards."""
    import duckdb

    with tempfile.TemporaryDirectory(prefix="lifecycle-reconcile-") as name:
        folder = Path(name)
        with duckdb.connect(str(folder / "scratch.duckdb")) as duck:
            duck.execute(f"SET memory_limit = '{int(memory_mb)}MB'")
            duck.execute(f"SET temp_directory = {_quoted(folder / 'spill')}")
            duck.execute("SET preserve_insertion_order = false")
            duck.execute("SET threads = 2")
            duck.execute("SET TimeZone = 'UTC'")
            yield Scratch(duck, folder)
