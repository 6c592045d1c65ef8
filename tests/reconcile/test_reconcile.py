"""Rows against objects from a listing and from inventories of every format: the same counts. Cases 2, 13, 23, 25."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import orc

from lifecycle.errors import PreconditionError, VerificationError
from lifecycle.reconcile.inventory import Inventory, parse_manifest
from lifecycle.reconcile.layout import groups_of, pattern_of
from oracle.facts import World, ident
from oracle.named import AS_OF, DAY, in_landing, in_partition, message
from oracle.stores import Servers
from support.store import Store

BUCKET = "product-data"
RECENT = AS_OF - timedelta(hours=30)
FINE, MOVED, LOST, STRANGE = (in_partition(message(name, age=DAY * 2)) for name in ("fine", "moved", "lost", "strange"))
LANDED = in_landing(message("landed", "business", DAY))
LATE = in_partition(message("late", age=-DAY))
WORLD = World(messages=(FINE, MOVED, LOST, STRANGE, LANDED, LATE))
WRONG_DAY = f"tier=consumer/date=2020-01-01/{MOVED.message_id}.json"
WRONG_TIER = f"tier=beta/date={STRANGE.received_at.date()}/{ident('another')}.json"
ORPHAN, OLD_ORPHAN = f"landing/{ident('orphan')}.json", f"tier=beta/date=2020-02-02/{ident('old orphan')}.json"
HIDDEN, ODD = f"landing/{ident('hidden')}.json", "tier=beta/what a name+.bin"

# key, latest, marker, modified: what lies in the bucket.
Row = tuple[str, bool, bool, datetime]
THERE: tuple[Row, ...] = (
    (FINE.partitioned_key, True, False, RECENT),
    (FINE.partitioned_key, False, False, RECENT - DAY),
    (LATE.partitioned_key, True, False, RECENT),
    (LANDED.landing_key, True, False, RECENT),
    (WRONG_DAY, True, False, RECENT),
    (WRONG_TIER, True, False, RECENT),
    (ORPHAN, True, False, RECENT),
    (OLD_ORPHAN, True, False, RECENT - DAY * 40),
    (HIDDEN, True, True, RECENT),
    (HIDDEN, False, False, RECENT - DAY),
    (ODD, True, False, RECENT),
)
EXPECTED = {
    "keys": 9,
    "rows": 5,
    # Late arrived after the instant: its row is left out, and its object is young. Odd is nobody's either.
    "orphans": {"under_a_day": 0, "under_a_week": 3, "under_30_days": 0, "older": 1},
    "orphans_past_margin": 1,
    "hidden_orphans": 1,
    "dangling": 1,
    "wrong_tier": 1,
    "wrong_day": 1,
    "wrong_record": 1,
    "shared": 0,
    "unreadable_keys": 1,
    "passed": False,
}


@pytest.fixture(scope="module")
def store(servers: Servers) -> Iterator[Store]:
    with servers.store(WORLD) as made, pytest.MonkeyPatch.context() as patch:
        for name, value in made.env.items():
            patch.setenv(name, value)
        made.sql("UPDATE app.messages SET object_key = %s WHERE message_id = %s", WRONG_DAY, MOVED.message_id)
        made.sql("UPDATE app.messages SET object_key = %s WHERE message_id = %s", WRONG_TIER, STRANGE.message_id)
        yield made


def _manifest(folder: Path, form: str, schema: str, file: Path, bucket: str = BUCKET) -> Path:
    digest = hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()
    text = {
        "sourceBucket": bucket,
        "creationTimestamp": str(int(AS_OF.timestamp() * 1000)),
        "fileFormat": form,
        "fileSchema": schema,
        "files": [{"key": f"inventories/data/{file.name}", "size": file.stat().st_size, "MD5checksum": digest}],
    }
    path = folder / "manifest.json"
    path.write_text(json.dumps(text), encoding="utf-8")
    return path


def csv_inventory(folder: Path, bucket: str = BUCKET) -> Path:
    """As S3 writes it: no header, everything quoted, keys percent-encoded."""
    lines = [
        ",".join(
            f'"{value}"'
            for value in (BUCKET, quote_plus(key, safe="/"), "v", str(latest).lower(), str(marker).lower(),
                          "2", modified.isoformat().replace("+00:00", "Z"))
        )
        for key, latest, marker, modified in THERE
    ]  # fmt: skip
    file = folder / "part.csv.gz"
    file.write_bytes(gzip.compress("\n".join(lines).encode()))
    schema = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, LastModifiedDate"
    return _manifest(folder, "CSV", schema, file, bucket)


def _table() -> pa.Table:
    keys, latest, markers, modified = zip(*THERE, strict=True)
    return pa.table(
        {
            "bucket": [BUCKET] * len(THERE),
            "key": list(keys),
            "is_latest": list(latest),
            "is_delete_marker": list(markers),
            "last_modified_date": pa.array(modified, pa.timestamp("ms", "UTC")),
        }
    )


_STRUCT = "struct<bucket:string,key:string,is_latest:boolean,is_delete_marker:boolean,last_modified_date:timestamp>"


def parquet_inventory(folder: Path) -> Path:
    pq.write_table(_table(), folder / "part.parquet")
    return _manifest(folder, "Parquet", _STRUCT, folder / "part.parquet")


def orc_inventory(folder: Path) -> Path:
    orc.write_table(_table(), str(folder / "part.orc"))
    return _manifest(folder, "ORC", _STRUCT, folder / "part.orc")


def told(store: Store, *options: object) -> dict[str, Any]:
    done = store.cli("s3", "reconcile", "--json", "--as-of", AS_OF.isoformat(), *options, check=False)
    assert done.returncode == 1, done.stderr
    # Case 25: no key and no id.
    assert not re.search(r"[0-9a-f]{8}-[0-9a-f]{4}", done.stdout + done.stderr)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("write", [csv_inventory, parquet_inventory, orc_inventory])
def test_an_inventory_of_any_format_tells_what_does_not_agree(store: Store, tmp_path: Path, write: Any) -> None:
    found = told(store, "--inventory", write(tmp_path))
    assert {name: found[name] for name in EXPECTED} == EXPECTED
    differing = {(each["tier"], each["day"]): (each["objects"], each["rows"]) for each in found["differing"]}
    assert differing[("beta", "2020-02-02")] == (1, 0)
    assert differing[("consumer", str(LOST.received_at.date()))] == (1, 2)


def test_an_inventory_in_a_bucket(store: Store, tmp_path: Path) -> None:
    manifest = csv_inventory(tmp_path)
    store.s3.upload_file(str(tmp_path / "part.csv.gz"), "research", "inventories/data/part.csv.gz")
    store.s3.upload_file(str(manifest), "research", "inventories/manifest.json")
    found = told(store, "--inventory", "s3://research/inventories/manifest.json")
    assert {name: found[name] for name in EXPECTED} == EXPECTED


def test_a_listing_tells_the_same_of_what_lies_there_now(store: Store) -> None:
    """Objects are as old as their writing, which was just now."""
    s3 = store.s3
    for key in (FINE.partitioned_key, LATE.partitioned_key, LANDED.landing_key, WRONG_DAY, WRONG_TIER, ORPHAN,
                OLD_ORPHAN, HIDDEN, ODD):  # fmt: skip
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"x")
    s3.delete_object(Bucket=BUCKET, Key=HIDDEN)
    for left in (LOST.partitioned_key, MOVED.partitioned_key, STRANGE.partitioned_key):
        for version in store_versions(store, left):
            s3.delete_object(Bucket=BUCKET, Key=left, VersionId=version)
    found = told(store)
    same = ("keys", "rows", "hidden_orphans", "dangling", "wrong_tier", "wrong_day", "wrong_record", "unreadable_keys")
    assert {name: found[name] for name in same} == {name: EXPECTED[name] for name in same}


def store_versions(store: Store, key: str) -> list[str]:
    page = store.s3.list_object_versions(Bucket=BUCKET, Prefix=key)
    return [version["VersionId"] for version in page.get("Versions", [])]


def test_what_is_no_inventory_of_this_bucket_is_refused(store: Store, tmp_path: Path) -> None:
    done = store.cli("s3", "reconcile", "--inventory", csv_inventory(tmp_path, "another"), check=False)
    assert "is of bucket 'another'" in done.stderr
    with pytest.raises(PreconditionError, match="not the manifest"):
        parse_manifest("{}")
    with pytest.raises(PreconditionError, match="no column LastModifiedDate"):
        parse_manifest(csv_inventory(tmp_path).read_text().replace(", LastModifiedDate", ""))
    with pytest.raises(PreconditionError, match=r"1 column\(s\) of the inventory have no name"):
        # What the manifest calls a column becomes part of a statement.
        parse_manifest(csv_inventory(tmp_path).read_text().replace("Bucket, Key", "Buck'et, Key"))
    with pytest.raises(PreconditionError, match="there is no file"):
        Inventory.open(str(tmp_path / "nothing.json"), store.s3)


def test_a_data_file_that_is_not_the_manifests_is_refused(store: Store, tmp_path: Path) -> None:
    inventory = Inventory.open(str(parquet_inventory(tmp_path)), store.s3)
    data = inventory.manifest.files[0]
    (tmp_path / "part.parquet").write_bytes(b"cut off")
    with pytest.raises(VerificationError, match=r"part\.parquet"), inventory.file(data, tmp_path):
        pass
    (tmp_path / "part.parquet").unlink()
    with pytest.raises(PreconditionError, match="is missing"), inventory.file(data, tmp_path):
        pass


def test_a_layout_as_a_pattern() -> None:
    pattern = pattern_of("x.y/tier={tier}/{record}/date={date}.json")
    assert groups_of(pattern) == ["tier", "record", "day"]
    found = re.match(pattern, f"x.y/tier=beta/{ident('a')}/date=2026-01-01.json")
    assert found is not None
    assert found.groupdict() == {"tier": "beta", "record": str(ident("a")), "day": "2026-01-01"}
    assert re.match(pattern, f"xzy/tier=beta/{ident('a')}/date=2026-01-01.json") is None
