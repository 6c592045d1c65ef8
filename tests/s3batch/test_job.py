"""``lifecycle s3 batch`` and ``batch-report`` on real servers; the job itself is carried out by the test."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from uuid import UUID

import pytest

from oracle.named import AS_OF, DAY
from oracle.stores import Servers, at, servers
from support.store import Store

__all__ = ["servers"]

ROLE = "arn:aws:iam::123456789012:role/lifecycle-batch"
PLACE = "s3://lifecycle-evidence/jobs"
DATA = "product-data"
ODD = 'tier=consumer/date=2023-03-01/with, "quotes" & 100%+ é.json'


@pytest.fixture(scope="module")
def store(servers: Servers) -> Iterator[Store]:
    """Two held objects behind the cut-off, one held and young, one due, one held whose object is gone."""
    with servers.store() as made, pytest.MonkeyPatch.context() as patch:
        for name, value in made.env.items():
            patch.setenv(name, value)
        for age, held, key in ((100, True, ODD), (101, True, None), (5, True, None), (100, False, None)):
            record = made.insert_message(received_at=AS_OF - DAY * age, object_body=f"{age} {held}", object_key=key)
            if held:
                _hold(made, record)
        _hold(made, made.insert_message(received_at=AS_OF - DAY * 102, object_key="landing/never-written.json"))
        yield made


def _hold(store: Store, record: UUID) -> None:
    store.insert("lifecycle.legal_holds", scope="message", target=str(record), reason="case", placed_by="counsel")


def batch(store: Store, *words: str) -> dict[str, Any]:
    told = ("--scope", "consumer", "--as-of", at(AS_OF), "--role", ROLE, "--json")
    done: dict[str, Any] = json.loads(store.cli("s3", "batch", *told, *words).stdout)
    return done


def lines(path: Path) -> list[tuple[str, str, str]]:
    with path.open(newline="") as file:
        return [(bucket, unquote(key), version) for bucket, key, version in csv.reader(file)]


@pytest.fixture
def tagging(store: Store, tmp_path: Path) -> Path:
    """A job that tags, in a folder."""
    words = ("--operation", "tag", "--tag", "stays=yes", "--out", str(tmp_path / "job"), "--place", PLACE)
    assert batch(store, *words)["objects"] == 2
    return tmp_path / "job"


def report(folder: Path, told: list[tuple[str, str, str, str]]) -> Path:
    """A completion report as S3 writes it: key, version, status, error."""
    result = folder / "result.csv"
    with result.open("w", newline="") as file:
        for key, version, status, error in told:
            csv.writer(file).writerow([DATA, key, version, status, "200", error, f"about {key}"])
    manifest = {
        "Format": "Report_CSV_20180820",
        "ReportSchema": "Bucket, Key, VersionId, TaskStatus, ErrorCode, HTTPStatusCode, ResultMessage",
        "Results": [
            {
                "TaskExecutionStatus": "succeeded",
                "Bucket": "lifecycle-evidence",
                "Key": f"jobs/results/{result.name}",
                "MD5Checksum": hashlib.md5(result.read_bytes(), usedforsecurity=False).hexdigest(),
            }
        ],
    }
    path = folder / "report.json"
    path.write_text(json.dumps(manifest))
    return path


def planned(folder: Path) -> list[tuple[str, str]]:
    """Keys as they stand in the manifest, encoded, and versions."""
    with (folder / "manifest.csv").open(newline="") as file:
        return [(key, version) for _, key, version in csv.reader(file)]


def judged(store: Store, folder: Path, told: list[tuple[str, str, str, str]]) -> tuple[int, dict[str, Any], str]:
    done = store.cli(
        "s3", "batch-report", "--job", str(folder), "--report", str(report(folder, told)), "--json", check=False
    )
    return done.returncode, json.loads(done.stdout), done.stderr


def tag(store: Store, folder: Path) -> None:
    for bucket, key, version in lines(folder / "manifest.csv"):
        store.s3.put_object_tagging(
            Bucket=bucket, Key=key, VersionId=version, Tagging={"TagSet": [{"Key": "stays", "Value": "yes"}]}
        )


def test_the_manifest_names_the_version_of_each_survivor_and_of_nothing_else(store: Store, tagging: Path) -> None:
    current = {
        (DATA, found["Key"], found["VersionId"])
        for found in store.s3.list_object_versions(Bucket=DATA)["Versions"]
        if found["IsLatest"]
    }
    wanted = {key for (key,) in store.sql("SELECT object_key FROM app.messages JOIN lifecycle.legal_holds"
              " ON target = message_id::text WHERE received_at < %s", AS_OF - DAY * 90)}  # fmt: skip
    written = set(lines(tagging / "manifest.csv"))
    assert written <= current
    assert {key for _, key, _ in written} == wanted - {"landing/never-written.json"} and ODD in wanted


def test_what_is_printed_are_counts_and_the_folder_is_ours_alone(store: Store, tagging: Path) -> None:
    """Promise 6: keys stand in the manifest only."""
    said = store.cli("s3", "batch", "--scope", "consumer", "--as-of", at(AS_OF), "--role", ROLE, "--operation", "tag",
                     "--tag", "stays=yes", "--out", str(tagging), "--place", PLACE).stdout  # fmt: skip
    assert "2 survivor(s)" in said and "left out, absent: 1" in said
    assert ".json" not in said
    assert tagging.stat().st_mode & 0o077 == 0


def test_in_s3_the_request_points_at_the_manifest_that_is_there(store: Store) -> None:
    words = ("--operation", "copy", "--target", "s3://product-logs/kept", "--out", PLACE)
    one, other = batch(store, *words), batch(store, *words)
    assert one == other and one["where"] == f"{PLACE}/{one['token']}/"
    keys = store.keys("lifecycle-evidence", "jobs/")
    assert [key.rpartition("/")[2] for key in keys] == ["create-job.json", "manifest.csv", "role-policies.json"]
    request = json.loads(store.read_object("lifecycle-evidence", keys[0]))
    location = request["Manifest"]["Location"]
    assert location["ObjectArn"] == f"arn:aws:s3:::lifecycle-evidence/{keys[1]}"
    found = store.s3.head_object(Bucket="lifecycle-evidence", Key=keys[1])
    assert found["ETag"].strip('"') == location["ETag"]


def test_a_folder_says_the_etag_that_its_upload_will_have(store: Store, tagging: Path) -> None:
    request = json.loads((tagging / "create-job.json").read_text())
    body = (tagging / "manifest.csv").read_bytes()
    assert (
        store.s3.put_object(Bucket=DATA, Key="elsewhere", Body=body)["ETag"].strip('"')
        == (request["Manifest"]["Location"]["ETag"])
    )
    store.s3.delete_object(Bucket=DATA, Key="elsewhere")


def test_a_job_that_did_it_all_passes(store: Store, tagging: Path) -> None:
    tag(store, tagging)
    code, told, _ = judged(store, tagging, [(*each, "succeeded", "") for each in planned(tagging)])
    assert (code, told["verified"], told["unverified"], told["missing"]) == (0, 2, 0, 0)


def _untagged(store: Store, folder: Path, told: list[tuple[str, str, str, str]]) -> list[tuple[str, str, str, str]]:
    key, version = planned(folder)[0]
    store.s3.delete_object_tagging(Bucket=DATA, Key=unquote(key), VersionId=version)
    return told


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        (_untagged, {"unverified": 1}),
        (lambda store, folder, told: told[1:], {"missing": 1}),
        (lambda store, folder, told: [*told, ("strange", "v", "succeeded", "")], {"foreign": 1}),
        (lambda store, folder, told: [told[0], (*told[1][:2], "failed", "AccessDenied")],
         {"failed": 1, "errors": {"AccessDenied": 1}}),
        (lambda store, folder, told: [*told, (*told[0][:2], "failed", "SlowDown")], {"failed": 1}),
    ],
    ids=["said and not done", "not in the report", "never planned", "refused", "told of twice"],
)  # fmt: skip
def test_a_job_that_did_not_is_told_apart_by_counts(
    store: Store, tagging: Path, change: Callable[..., list[tuple[str, str, str, str]]], wrong: dict[str, Any]
) -> None:
    """Promise 5: nothing counts as done on the report's word."""
    tag(store, tagging)
    told = change(store, tagging, [(*each, "succeeded", "") for each in planned(tagging)])
    code, found, said = judged(store, tagging, told)
    assert code == 1
    assert wrong.items() <= found.items()
    assert "json" not in said.replace("create-job.json", "")


@pytest.mark.parametrize("same", [True, False])
def test_a_copy_is_compared_with_its_source(store: Store, tmp_path: Path, same: bool) -> None:
    """Promise 3: of the right size and not the same is not a copy."""
    folder = tmp_path / "copy"
    words = ("--operation", "copy", "--target", "s3://product-logs/kept", "--out", str(folder), "--place", PLACE)
    assert batch(store, *words)["objects"] == 2
    for bucket, key, version in lines(folder / "manifest.csv"):
        body = store.read_object(bucket, key, version)
        store.put_object("product-logs", f"kept/{key}", body if same else body[::-1])
    code, found, _ = judged(store, folder, [(*each, "succeeded", "") for each in planned(folder)])
    assert (code, found["verified"], found["unverified"]) == ((0, 2, 0) if same else (1, 0, 2))


def test_a_report_that_was_changed_is_refused(store: Store, tagging: Path) -> None:
    path = report(tagging, [(*each, "succeeded", "") for each in planned(tagging)])
    (tagging / "result.csv").write_text("")
    done = store.cli("s3", "batch-report", "--job", str(tagging), "--report", str(path), check=False)
    assert done.returncode == 1 and "not what its manifest says" in done.stderr
