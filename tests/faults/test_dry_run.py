"""Case 21: a dry run that is dry. Both stores byte by byte before and after, on a store where there is much to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from psycopg import Connection

from lifecycle.dispositions.context import SCOPES
from lifecycle.orchestration import steps
from lifecycle.orchestration.session import shared_s3_client
from oracle.busy import AS_OF, busy_world
from oracle.change import apply_changes
from oracle.facts import Erasure, Flag, Hold, World, ident
from oracle.imprint import Imprint, changes, imprint
from oracle.load import DATA, EVIDENCE, QUARANTINE
from oracle.stores import Servers, at, run
from support.store import Store

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = [pytest.mark.slow, pytest.mark.embedded_s3, pytest.mark.timeout(600)]

# One of each: fresh, past the defaults, past the end of quarantine.
AGES = (1, 88, 800)
DAY = timedelta(days=1)
NOW = AS_OF + 2 * DAY
TIER_SCOPES = [scope for scope in SCOPES if scope not in ("records", "erasure")]
# All that a scheduled dry run writes: that it ran, and what it would have done.
BOOKS = ("rows of lifecycle.runs", "rows of lifecycle.plan_units", "sequence lifecycle.runs_run_id_seq")


@dataclass(frozen=True)
class Scene:
    """A store with a past and much to do, and its imprint."""

    store: Store
    conn: Connection[Any]
    before: Imprint

    def changed(self) -> list[str]:
        return changes(self.before, imprint(self.conn, self.store.s3))


@pytest.fixture(scope="module")
def scene(servers: Servers) -> Iterator[Scene]:
    """A busy world, run once; then exceptions end and begin, messages arrive, and uploads and strays are left lying."""
    world = busy_world(ages=AGES, accounts_per_tier=4)
    with servers.store(world) as store, store.connect() as conn, pytest.MonkeyPatch.context() as patch:
        for name, value in store.env.items():
            patch.setenv(name, value)
        assert run(store, AS_OF).code == 0
        apply_changes(conn, world, later(world))
        store.insert_message(received_at=NOW - DAY, object_body="landed")
        store.insert_message(tier="prototype", received_at=NOW - 40 * DAY)
        store.put_object(DATA, "tier=consumer/date=2025-01-01/stray.json", b"{}")
        store.s3.create_multipart_upload(Bucket=DATA, Key="landing/unfinished.json")
        yield Scene(store, conn, imprint(conn, store.s3))


def later(world: World) -> World:
    """Flags are cleared and raised, holds are released and placed, somebody asks for erasure."""
    ended = NOW - timedelta(hours=1)
    flagged = {flag.message_id for flag in world.flags}
    fresh = [m for m in world.messages if m.tier == "consumer" and NOW - m.received_at < 20 * DAY]
    raised = [Flag(m.message_id, m.account_id, ended) for m in fresh if m.message_id not in flagged]
    asked = next(a for a in world.accounts if a.tier == "beta")
    placed = Hold(ident("dry", "hold"), "account", str(asked.account_id), ended)
    requests = [
        Erasure(ident("dry", n), "account", str(a.account_id), ended) for n, a in enumerate(world.accounts[::5])
    ]
    return replace(
        world,
        flags=(*(replace(f, cleared_at=ended) if n % 2 else f for n, f in enumerate(world.flags)), *raised),
        holds=(*(replace(h, released_at=ended) for h in world.holds), placed),
        cases=tuple(replace(c, closed_at=ended) for c in world.cases),
        feedback=tuple(replace(f, withdrawn_at=ended) for f in world.feedback),
        erasures=(*world.erasures, *requests),
    )


def test_the_store_has_something_to_do_in_every_scope_and_a_past(scene: Scene) -> None:
    """A dry run that finds nothing would prove nothing."""
    told = run(scene.store, NOW, "--dry-run").json["scopes"]
    assert [scope for scope in SCOPES if not told[scope]["units"]] == []
    methods = {unit["method"] for scope in told.values() for unit in scope["units"]}
    assert methods >= {"swap", "rows", "quarantine", "records", "logs"}
    for bucket in (DATA, QUARANTINE, EVIDENCE):
        assert any(name.startswith(f"{bucket}: version") for name in scene.before)


@pytest.mark.parametrize(
    "command", ["run --dry-run", "plan", *(f"run --dry-run --tier {tier}" for tier in TIER_SCOPES)]
)
def test_a_dry_run_of_the_command_line_changes_nothing_at_all(scene: Scene, command: str) -> None:
    name, *options = command.split()
    done = scene.store.cli(name, "--as-of", at(NOW), "--json", *options)
    assert done.returncode == 0
    assert scene.changed() == []


@pytest.mark.parametrize("scope", SCOPES)
def test_a_scheduled_dry_run_writes_that_it_ran_and_what_it_would_do(scene: Scene, scope: str) -> None:
    """Every step of a scope as the DAG takes it, with the parameter dry_run."""
    run_id = steps.begin(scope, NOW, run_key=f"test/dry/{scope}", dry_run=True)
    for step in (steps.partition, steps.cutoffs, steps.plan, steps.quarantine):
        step(run_id)
    planned = scene.store.value("SELECT count(*) FROM lifecycle.plan_units WHERE run_id = %s", run_id)
    assert planned > 0
    assert steps.units(run_id) == []
    for (unit,) in scene.store.sql("SELECT unit FROM lifecycle.plan_units WHERE run_id = %s", run_id):
        assert steps.expire(run_id, unit) == {}
    for step in (steps.settle, steps.validate, steps.certify):
        step(run_id)
    scene.store.sql("DELETE FROM lifecycle.plan_units")
    scene.store.sql("DELETE FROM lifecycle.runs WHERE dry_run")
    assert [name for name in scene.changed() if not name.endswith(BOOKS)] == []


def test_a_dry_run_asks_s3_nothing_but_questions(scene: Scene) -> None:
    """What is undone within the run leaves no trace in the stores, but would be a request that writes."""
    asked: set[str] = set()

    def note(model: Any, **_: Any) -> None:
        asked.add(model.name)

    events = shared_s3_client().meta.events
    events.register("before-call.s3", note, unique_id="dry-run")
    try:
        assert run(scene.store, NOW, "--dry-run").code == 0
    finally:
        events.unregister("before-call.s3", unique_id="dry-run")
    assert asked
    assert {name for name in asked if not name.startswith(("Get", "List", "Head"))} == set()


# The imprint itself ------------------------------------------------------------------------------------------------


def _again(s3: S3Client) -> None:
    found = s3.list_object_versions(Bucket=DATA)["Versions"][0]
    content = s3.get_object(Bucket=DATA, Key=found["Key"])["Body"].read()
    s3.put_object(Bucket=DATA, Key=found["Key"], Body=content)


def _tag(s3: S3Client) -> None:
    found = s3.list_object_versions(Bucket=DATA)["Versions"][0]
    s3.put_object_tagging(
        Bucket=DATA,
        Key=found["Key"],
        VersionId=found["VersionId"],
        Tagging={"TagSet": [{"Key": "seen", "Value": "yes"}]},
    )


def _lock(s3: S3Client) -> None:
    found = s3.list_object_versions(Bucket=QUARANTINE)["Versions"][0]
    s3.put_object_legal_hold(
        Bucket=QUARANTINE, Key=found["Key"], VersionId=found["VersionId"], LegalHold={"Status": "ON"}
    )


def _rule(s3: S3Client) -> None:
    rule: Any = {"ID": "x", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}}
    s3.put_bucket_lifecycle_configuration(Bucket=DATA, LifecycleConfiguration={"Rules": [rule]})


def _abort(s3: S3Client) -> None:
    upload = s3.list_multipart_uploads(Bucket=DATA)["Uploads"][0]
    s3.abort_multipart_upload(Bucket=DATA, Key=upload["Key"], UploadId=upload["UploadId"])


DEEDS: list[tuple[str | Callable[[S3Client], None], str]] = [
    ("UPDATE app.accounts SET tier = tier WHERE tier = 'beta'", "changed: rows of app.accounts"),
    ("SELECT 1 FROM app.feedback LIMIT 1 FOR UPDATE", "changed: rows of app.feedback"),
    (
        "CREATE TABLE app.messages_beta_20991231 PARTITION OF app.messages_beta"
        " FOR VALUES FROM ('2099-12-31') TO ('2100-01-01')",
        "new: relation r app.messages_beta_20991231",
    ),
    ("CREATE INDEX extra ON app.accounts (tier)", "new: index app.extra"),
    ("TRUNCATE research.messages", "changed: relation r research.messages"),
    ("ALTER TABLE lifecycle.ledger DISABLE TRIGGER ledger_append_only", "changed: trigger ledger_append_only on"),
    ("SELECT nextval('lifecycle.runs_run_id_seq')", "changed: sequence lifecycle.runs_run_id_seq"),
    ("COMMENT ON SCHEMA lifecycle IS 'other'", "changed: schema lifecycle"),
    (_again, "new: product-data: version"),
    (_tag, "changed: product-data: version"),
    (_lock, "changed: quarantine: version"),
    (_rule, "changed: product-data: get_bucket_lifecycle_configuration"),
    (_abort, "gone: product-data: upload"),
]


def test_an_imprint_shows_every_kind_of_change(scene: Scene) -> None:
    """Comes last: it makes the store another one."""
    before = imprint(scene.conn, scene.store.s3)
    for deed, name in DEEDS:
        if isinstance(deed, str):
            scene.store.sql(deed)
        else:
            deed(scene.store.s3)
        after = imprint(scene.conn, scene.store.s3)
        assert [line for line in changes(before, after) if name in line], name
        before = after
