"""Stages of many-record objects: content goes at its deadline, the record stays until its own (cases 2, 7, 21, 23)."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from lifecycle.config import load_configuration
from lifecycle.dispositions.logs import survey_logs
from lifecycle.orchestration import steps
from lifecycle.orchestration.session import run_context
from lifecycle.orchestration.standing import standings
from lifecycle.shipped import SHIPPED_DATASETS, SHIPPED_POLICY, shipped
from lifecycle.stores.s3 import logs as engine
from oracle.facts import Agreement, Case, Erasure, Hold, Retain, World, ident
from oracle.load import LOGS
from oracle.named import AS_OF, DAY
from oracle.stores import Ran, Servers, at, full_run, run
from support.store import Store

pytestmark = pytest.mark.timeout(300)

ENDINGS = ("jsonl.gz", "jsonl.zst", "parquet")
# By name: the tier, the age in days, and what a run leaves: all of it, the record without its content, or nothing.
AGES = {
    "young": ("consumer", 50, "all"),
    "content": ("consumer", 88, "emptied"),
    "business content": ("business", 26, "emptied"),
    "held": ("consumer", 200, "all"),
    "open case": ("business", 200, "all"),
    "agreed 365": ("business", 200, "all"),
    "agreed 7": ("business", 5, "emptied"),
    "erased": ("consumer", 1, "emptied"),
    "unknown tier": ("prototype", 26, "emptied"),
    "research": ("evaluation", 100, "emptied"),
    "emptied before": ("consumer", 200, "all"),
    "over a year": ("consumer", 380, "nothing"),
    "held over a year": ("business", 380, "all"),
}
EXPECTED = {name: what for name, (_, _, what) in AGES.items()}


def key(ending: str) -> str:
    return f"requests/date=2023-01-01/part-0.{ending}"


def record(name: str) -> dict[str, Any]:
    tier, age, _ = AGES[name]
    content = None if name == "emptied before" else f"secret of {name}"
    return {
        "message_id": str(ident("log", name)),
        "account_id": str(ident("account", name)),
        "tier": tier,
        "received_at": (AS_OF - DAY * age).isoformat(),
        "tokens": 12.5,
        "prompt": content,
        "request": {"messages": [content] if content else None, "model": name},
    }


def without_content(told: dict[str, Any]) -> dict[str, Any]:
    return told | {"prompt": None, "request": told["request"] | {"messages": None}}


def pack(ending: str, records: list[dict[str, Any]]) -> bytes:
    if ending == "parquet":
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(records), sink, row_group_size=5)
        return sink.getvalue()
    lines = "".join(json.dumps(one) + "\n" for one in records).encode()
    if ending.endswith("gz"):
        return gzip.compress(lines)
    packed: bytes = pa.compress(lines, "zstd", asbytes=True)
    return packed


def unpack(ending: str, body: bytes) -> list[dict[str, Any]]:
    if ending == "parquet":
        rows: list[dict[str, Any]] = pq.read_table(io.BytesIO(body)).to_pylist()
        return rows
    lines = gzip.decompress(body) if ending.endswith("gz") else pa.input_stream(io.BytesIO(body), "zstd").read()
    return [json.loads(line) for line in lines.splitlines()]


def fill(store: Store) -> None:
    for ending in ENDINGS:
        store.put_object(LOGS, key(ending), pack(ending, [record(name) for name in AGES]))


def world() -> World:
    held = ("held", "held over a year")
    return World(
        holds=tuple(Hold(ident("h", n), "account", str(ident("account", n)), AS_OF - DAY) for n in held),
        cases=(Case(ident("c"), ident("account", "open case"), AS_OF - DAY),),
        agreements=tuple(
            Agreement(ident("a", days), ident("account", f"agreed {days}"), Retain(days=days), AS_OF - DAY * 500)
            for days in (365, 7)
        ),
        erasures=(Erasure(ident("e"), "account", str(ident("account", "erased")), AS_OF - DAY),),
    )


def write_configuration(
    folder: Path, change: Callable[[dict[str, Any]], None] = lambda logs: None
) -> tuple[Path, Path]:
    """The shipped policy and bindings, with records of a year whose content goes as the messages go."""
    policy, catalog = (yaml.safe_load(shipped(name).read_text()) for name in (SHIPPED_POLICY, SHIPPED_DATASETS))
    hold = next(rule for rule in policy["rules"] if rule["trigger"] == "hold")
    hold["category"].append("usage_records")
    usage = {
        "id": "usage",
        "category": ["usage_records"],
        "tiers": ["consumer", "beta", "evaluation", "business"],
        "trigger": "default",
        "kind": "maximum",
        "period": "P1Y",
        "clock": "received",
        "disposition": "delete",
        "basis": "what was used, by whom and for how much: at most a year",
    }
    policy["rules"].append(usage)
    logs = next(each for each in catalog["datasets"] if each["id"] == "request_logs")
    stage = {"name": "content", "category": "prompts_and_outputs", "clear": ["prompt", "request.messages"]}
    logs |= {"category": "usage_records", "stages": [stage]}
    change(logs)
    files = folder / "policy.yaml", folder / "datasets.yaml"
    for file, content in zip(files, (policy, catalog), strict=True):
        file.write_text(yaml.safe_dump(content))
    return files


@dataclass(frozen=True)
class Done:
    store: Store
    dry: Ran
    ran: Ran


@pytest.fixture(scope="module")
def done(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Done]:
    """After a dry run and a run whose validations passed."""
    policy, catalog = write_configuration(tmp_path_factory.mktemp("log stages"))
    with servers.store(world()) as store, pytest.MonkeyPatch.context() as patch:
        for name, value in {
            **store.env,
            "LIFECYCLE_POLICY": str(policy),
            "LIFECYCLE_DATASETS": str(catalog),
        }.items():
            patch.setenv(name, value)
        fill(store)
        before = store.versions(LOGS)
        dry = run(store, AS_OF, "--dry-run", scope="records")
        assert dry.code == 0, str(dry)
        assert store.versions(LOGS) == before, "the dry run changed something (case 21)"
        ran = full_run(store, AS_OF)
        assert ran.code == 0, str(ran)
        yield Done(store, dry, ran)


@pytest.mark.parametrize("ending", ENDINGS)
def test_content_goes_at_its_deadline_and_the_record_at_its_own(done: Done, ending: str) -> None:
    """Holds, cases, agreements and erasures act on content as on a message; what is kept is kept whole (promise 1)."""
    wanted = [
        without_content(record(name)) if what == "emptied" else record(name)
        for name, what in EXPECTED.items()
        if what != "nothing"
    ]
    body = done.store.read_object(LOGS, key(ending))
    assert unpack(ending, body) == wanted
    assert [(one.key, one.is_latest) for one in done.store.versions(LOGS, key(ending))] == [(key(ending), True)]


def test_plan_and_ledger_count_what_loses_content_apart_from_what_goes(done: Done) -> None:
    """Promises 4 and 5. Content of what is over a year has the earlier deadline, and goes before its record."""
    lost = sum(what == "emptied" for what in EXPECTED.values()) + 1
    told = done.store.sql(
        "SELECT dataset, rule, sum((counts ->> 'records')::int)::int FROM lifecycle.ledger WHERE entry = 'outcome'"
        " AND dataset LIKE 'request_logs%' AND disposition = 'delete' GROUP BY 1, 2 ORDER BY 1, 2"
    )
    by_rule = {rule: n for name, rule, n in told if name == "request_logs.content"}
    assert sum(by_rule.values()) == 3 * lost
    assert by_rule.items() >= {"business_agreement": 3, "erasure_request": 3, "business_default": 3}.items()
    assert [(rule, n) for name, rule, n in told if name == "request_logs"] == [("usage", 3)]
    assert done.dry.disposed()["delete"] == 3 * (lost + 1)


def test_a_second_run_writes_nothing_and_reads_nothing_twice(done: Done, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 4, and what is remembered of an object neither hides a stage nor has it read every day."""
    before, looked = done.store.versions(LOGS), list[str]()
    real = engine.inspect_object
    run_id = steps.begin("records", AS_OF + timedelta(minutes=1))

    def noted(s3: Any, bucket: str, name: str, *rest: Any) -> Any:
        looked.append(name)
        return real(s3, bucket, name, *rest)

    monkeypatch.setattr(engine, "inspect_object", noted)

    def survey(after: timedelta) -> list[str]:
        looked.clear()
        with run_context(run_id) as context:
            late = replace(context.run, as_of=AS_OF + after)
            return sorted(unit.unit for unit in survey_logs(replace(context, run=late)))

    young = "requests/date=2023-06-01/part-0.jsonl.gz"
    told = record("young") | {"received_at": (AS_OF - DAY).isoformat()}
    done.store.put_object(LOGS, young, pack("jsonl.gz", [told, told | {"prompt": "x"}]))
    assert survey(DAY * 0) == []
    assert looked.count(young) == 2  # once for the records, once for their content
    assert survey(DAY) == []
    assert young not in looked
    assert survey(DAY * 90) == ["request_logs.content/2023-01-01", "request_logs.content/2023-06-01"]
    assert looked.count(young) == 1
    assert done.store.versions(LOGS, "requests/date=2023-01-01") == before
    done.store.s3.delete_object(Bucket=LOGS, Key=young, VersionId=done.store.versions(LOGS, young)[0].version_id)


def test_it_is_told_in_words_and_on_the_page(done: Done) -> None:
    body = pack("jsonl.gz", [record(name) for name in AGES])
    name = "requests/date=2023-01-01/part-7.jsonl.gz"
    done.store.put_object(LOGS, name, body)
    try:
        said = json.loads(done.store.cli("explain", "object", f"{LOGS}/{name}", "--as-of", at(AS_OF), "--json").stdout)
        assert said["due"] == {"usage": 1}
        assert said["stages"]["content"]["due"]["consumer_default"] == 3
        assert "to lose their content (prompt, request.messages)" in said["text"]
        day = ("explain", "partition", "request_logs.content/2023-01-01", "--as-of", at(AS_OF), "--json")
        told = json.loads(done.store.cli(*day).stdout)
        assert told["due"]["consumer_default"] == 3
    finally:
        for one in done.store.versions(LOGS, name):
            done.store.s3.delete_object(Bucket=LOGS, Key=name, VersionId=one.version_id)
    config = load_configuration()
    with done.store.connect() as conn:
        found = standings(conn, done.store.s3, config.policy, config.catalog, AS_OF, ["records"])
    assert [each.rule for each in found if each.dataset == "request_logs.content"] == ["business_default"]


def test_a_required_column_is_left_in_place_and_named_with_its_remedy(done: Done) -> None:
    """Case 23: a null cannot be written there; whoever may read the bucket is told which object it is."""
    rows = pa.Table.from_pylist([record("content")])
    fields = [field.with_nullable(field.name != "prompt") for field in rows.schema]
    sink = io.BytesIO()
    pq.write_table(rows.cast(pa.schema(fields)), sink)
    name = "requests/date=2023-01-01/part-8.parquet"
    done.store.put_object(LOGS, name, sink.getvalue())
    told = json.loads(done.store.cli("s3", "unclassified", "--json", check=False).stdout)
    assert [(each["key"], each["fault"]) for each in told["objects"] if each["fault"]] == [
        (name, "a Parquet object has a required column that is to be emptied")
    ]
    assert told["objects"][0]["remedy"].startswith("have it written as an optional column")
    for one in done.store.versions(LOGS, name):
        done.store.s3.delete_object(Bucket=LOGS, Key=name, VersionId=one.version_id)


def test_the_auditor_is_red_when_a_due_field_is_still_there(done: Done) -> None:
    """Case 7: by its own reading, in lines and columns; also where a key occurs twice and a parser shows the last."""
    twice = json.dumps(record("content"))[:-1] + ', "prompt": null, "request": null}'
    nested = record("content") | {"prompt": None}
    emptied = without_content(record("content"))
    objects = {
        "gz": gzip.compress(f"{twice}\n{json.dumps(emptied)}\n{json.dumps(record('held'))}\nno json\n".encode()),
        "parquet": pack("parquet", [nested, emptied, record("business content"), record("held"), record("young")]),
    }
    for ending, body in objects.items():
        done.store.put_object(LOGS, key("jsonl.gz" if ending == "gz" else ending).replace("part-0", "part-9"), body)
    told = json.loads(done.store.cli("audit", "--as-of", at(AS_OF + DAY * 10), "--json", check=False).stdout)
    found = {each["name"]: each["violations"] for each in told["checks"] if "content_past_deadline" in each["name"]}
    assert {each.rpartition(".")[2]: n for each, n in found.items() if n} == {
        "consumer": 2,
        "business": 1,
        "unclassified": 1,
    }
    absent = [each["violations"] for each in told["checks"] if each["name"] == "request_logs.content_fields_absent"]
    assert absent == [0]
    for one in done.store.versions(LOGS, "requests/date=2023-01-01/part-9"):
        done.store.s3.delete_object(Bucket=LOGS, Key=one.key, VersionId=one.version_id)
