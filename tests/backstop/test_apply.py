"""Our rules in real buckets: shown, applied by name, beside those of others, watched, and taken away again.

The embedded server stores lifecycle rules and carries none out; that they are carried out is tested on Ceph
(tests/stores/s3/test_backstop_executes.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from backstop.test_tickets import with_backstop
from lifecycle.backstop.compare import normal
from lifecycle.backstop.models import OWN
from lifecycle.backstop.standing import standings
from lifecycle.config import load_configuration
from lifecycle.errors import VerificationError
from lifecycle.stores.s3.lifecycle_rules import replace_rules
from lifecycle.validation.auditor import audit, count
from lifecycle.validation.queries.backstop import backstop_checks, stage_backstop
from lifecycle.validation.scene import Scene
from lifecycle.validation.staging import temporary_stage
from oracle.facts import World
from oracle.named import AS_OF, DAY, message
from oracle.stores import Servers
from support.approve import approve_loaded
from support.edits import period, put, write_policy
from support.permits import altered
from support.scopes import carry_out
from support.store import Store

DATA = "product-data"
THEIRS: dict[str, Any] = {
    "ID": "exports",
    "Status": "Enabled",
    "Filter": {"And": {"Prefix": "exports/", "Tags": [{"Key": "a", "Value": "b c"}]}},
    "Expiration": {"Days": 3},
    "NoncurrentVersionExpiration": {"NoncurrentDays": 2, "NewerNoncurrentVersions": 1},
    "Transitions": [{"Days": 1, "StorageClass": "STANDARD_IA"}],
}


@pytest.fixture(scope="module")
def made(servers: Servers, sql_judges: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with servers.store(World(messages=(message("young"),))) as store, pytest.MonkeyPatch.context() as patch:
        for name, value in store.env.items():
            patch.setenv(name, value)
        patch.setenv("LIFECYCLE_DATASETS", str(with_backstop(tmp_path_factory.mktemp("backstop"))))
        yield store


@pytest.fixture
def store(made: Store) -> Store:
    """Approved, and no rules in any bucket, ours or theirs."""
    approve_loaded(AS_OF)
    made.cli("s3", "backstop", "--remove", "--by", "cleaner", "--yes", check=False)
    for bucket in (DATA, "product-logs", "quarantine", "lifecycle-evidence"):
        made.s3.delete_bucket_lifecycle(Bucket=bucket)
    return made


def apply(store: Store, *options: str, by: str = "j.doe", check: bool = True) -> Any:
    done = store.cli("s3", "backstop", "--apply", "--by", by, "--yes", "--json", *options, check=check)
    return json.loads(done.stdout) if done.stdout.startswith("{") else done


def shown(store: Store) -> dict[str, Any]:
    done = store.cli("s3", "backstop", "--json", check=False)
    found = json.loads(done.stdout)
    assert done.returncode == (0 if found["passed"] else 1)
    return {bucket["bucket"]: bucket for bucket in found["buckets"]}


def rules(store: Store, bucket: str = DATA) -> list[dict[str, Any]]:
    try:
        return [dict(rule) for rule in store.s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]]
    except store.s3.exceptions.ClientError:
        return []


def give(store: Store, *theirs: dict[str, Any], bucket: str = DATA) -> None:
    configuration: Any = {"Rules": list(theirs)}
    store.s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=configuration)


def judged(store: Store, s3: Any = None) -> dict[str, int]:
    """What the auditor says of the backstop: violations of the checks that fail."""
    config = load_configuration()
    with store.connect() as conn, temporary_stage(conn) as stage:
        stage_backstop(conn, s3 or store.s3, config, stage, AS_OF)
        scene = Scene(config.policy, config.catalog, stage, AS_OF, AS_OF, "records")
        found = count(conn, list(backstop_checks(scene)))
    assert len(found) == 4
    return {check.name: check.violations for check in found if not check.success}


def test_showing_changes_nothing_and_what_was_never_applied_is_no_drift(store: Store) -> None:
    give(store, THEIRS)
    found = shown(store)[DATA]
    assert (found["in_force"], found["findings"]) == (False, [])
    assert {change["kind"] for change in found["changes"]} == {"add"}
    assert [rule["ID"] for rule in rules(store)] == ["exports"]
    text = store.cli("s3", "backstop").stdout
    assert "after 28 days, and has forgotten it by day 31" in text
    assert "+ lifecycle-backstop-messages-business-expire tier=business/date= with" in text


def test_applying_leaves_the_rules_of_others_as_they_are_and_is_in_the_ledger(store: Store) -> None:
    give(store, THEIRS)
    before = rules(store)
    found = apply(store)
    assert DATA in found["changed"]
    after = rules(store)
    assert [rule for rule in after if rule["ID"] == "exports"] == before
    assert {rule["ID"] for rule in after} >= {f"{OWN}messages-business-expire", f"{OWN}messages-landing-leftovers"}
    row = store.sql(
        "SELECT disposition, rule, counts ->> 'by', counts ->> 'rules_sha256' FROM lifecycle.ledger"
        " WHERE unit = 'backstop/product-data' ORDER BY seq DESC LIMIT 1"
    )[0]
    assert row[:3] == ("approve", "applied", "j.doe")
    assert len(row[3]) == 64
    assert '"intact": true' in store.cli("ledger", "verify", "--json").stdout
    assert judged(store) == {}
    assert rules(store, "lifecycle-evidence") == []
    assert apply(store)["changed"] == []


def test_case_20_a_configuration_that_nobody_approved_is_not_handed_to_s3(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case 20: a policy edit deletes far more than meant, and here nobody could stop it."""
    monkeypatch.setenv("LIFECYCLE_POLICY", str(write_policy(tmp_path, period("business_default", "P7D"))))
    done = apply(store, check=False)
    assert done.returncode == 1
    assert "not the configuration in force" in done.stderr
    assert rules(store) == []


@pytest.mark.parametrize(
    ("bucket", "prefix"), [(DATA, "tier=consumer/"), ("lifecycle-evidence", ""), ("quarantine", "tier=beta/date=2026")]
)
def test_nothing_is_applied_beside_a_rule_that_takes_what_stays(store: Store, bucket: str, prefix: str) -> None:
    give(store, {"ID": "theirs", "Status": "Enabled", "Filter": {"Prefix": prefix}, "Expiration": {"Days": 9}},
         bucket=bucket)  # fmt: skip
    done = apply(store, check=False)
    assert done.returncode == 1
    assert f"({bucket}: 1)" in done.stderr
    assert rules(store, "product-logs") == []
    found = shown(store)[bucket]["findings"]
    assert [each["rule"] for each in found] == ["theirs"]
    assert judged(store) == {"backstop_foreign_rules": 1}


def test_case_28_only_who_may_approve_may_apply(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Case 28: the names are those of the policy in force."""
    monkeypatch.setenv("LIFECYCLE_POLICY", str(write_policy(tmp_path, put("approval", approvers=["board"]))))
    approve_loaded(AS_OF)
    assert "j.doe is not among the approvers" in apply(store, check=False).stderr
    assert rules(store) == []
    assert apply(store, by="board")["changed"]


@pytest.mark.parametrize("edit", ["removed", "altered", "added"])
def test_drift_is_red_until_it_is_applied_again(store: Store, edit: str) -> None:
    apply(store)
    there = rules(store)
    altered_rule = there[0] | {"Expiration": {"Days": 5}}
    own = {"ID": f"{OWN}x", "Status": "Enabled", "Filter": {"Prefix": "exports/"}, "Expiration": {"Days": 1}}
    give(store, *{"removed": there[1:], "altered": [altered_rule, *there[1:]], "added": [*there, own]}[edit])
    found = shown(store)[DATA]
    assert "are not those that were approved" in found["findings"][0]["what"]
    assert len(found["changes"]) == 1
    assert judged(store) == {"backstop_drift": 1}
    assert apply(store)["changed"] == [DATA]
    assert judged(store) == {}


def test_a_policy_that_changed_since_is_drift_too(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A longer period that S3 does not know of would be cut short by it."""
    apply(store)
    monkeypatch.setenv("LIFECYCLE_POLICY", str(write_policy(tmp_path, period("business_default", "P60D"))))
    approve_loaded(AS_OF)
    found = shown(store)
    assert "other rules than those that were approved" in found[DATA]["findings"][0]["what"]
    assert {change["id"] for change in found[DATA]["changes"]} >= {f"{OWN}messages-business-expire"}
    apply(store)
    days = {rule["ID"]: rule.get("Expiration", {}).get("Days") for rule in rules(store)}
    assert days[f"{OWN}messages-business-expire"] == 60


def test_a_longer_period_takes_the_shorter_rule_away_the_moment_it_is_approved(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 1: S3 would go on with the former period; only --apply, by name, gives it the new one."""
    apply(store)
    file = write_policy(tmp_path, period("business_default", "P60D"))
    monkeypatch.setenv("LIFECYCLE_POLICY", str(file))
    said = store.cli("policy", "approve", load_configuration().policy_hash[:12], "--by", "j.doe", "--yes")
    assert "1 lifecycle rule(s) of S3 would act too early now and were taken away" in said.stderr
    left = {rule["ID"] for rule in rules(store)}
    assert f"{OWN}messages-business-expire" not in left
    assert f"{OWN}messages-consumer-expire" in left
    assert judged(store) == {"backstop_drift": 2}  # and the leftovers of the logs
    apply(store)
    assert judged(store) == {}


def test_every_run_retreats_too(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under the loaded and under the approved policy, while somebody makes up their mind."""
    apply(store)
    monkeypatch.setenv("LIFECYCLE_POLICY", str(write_policy(tmp_path, period("consumer_default", "P400D"))))
    assert carry_out(AS_OF, "beta", validated=False).code == 0
    left = {rule["ID"] for rule in rules(store) if rule["ID"].endswith("-expire")}
    assert left == {f"{OWN}messages-business-expire"}
    assert store.sql("SELECT rule FROM lifecycle.ledger WHERE dataset = 'backstop' ORDER BY seq DESC LIMIT 1") == [
        ("retreat",)
    ]


def test_the_daily_audit_fails_on_drift(store: Store) -> None:
    apply(store)
    store.s3.delete_bucket_lifecycle(Bucket=DATA)
    with store.connect() as conn:
        assert audit(conn, store.s3, load_configuration(), AS_OF).failures["backstop_drift"] == 1


def test_the_audit_finds_what_must_stay_within_reach_of_s3(store: Store) -> None:
    """A hold on an object whose deadline is near, and nobody took its ticket."""
    near = store.insert_message(tier="business", received_at=AS_OF - DAY * 26, object_body="x")
    key = f"tier=business/date={(AS_OF - DAY * 26).date()}/{near}.json"
    store.sql("UPDATE app.messages SET object_key = %s WHERE message_id = %s", key, near)
    store.s3.put_object(Bucket=DATA, Key=key, Body=b"old", Tagging="lifecycle-expires=business_default")
    store.s3.put_object(Bucket=DATA, Key=key, Body=b"new")
    apply(store)
    assert judged(store) == {}
    store.cli("hold", "place", "--scope", "dataset", "--target", "messages", "--reason", "all of it")
    assert judged(store) == {}
    store.s3.put_object(Bucket=DATA, Key=key, Body=b"newer", Tagging="lifecycle-expires=business_default")
    assert judged(store) == {"backstop_tickets": 1}
    store.cli("s3", "shield")
    assert judged(store) == {}


def test_the_way_back_takes_ours_and_only_ours(store: Store) -> None:
    give(store, THEIRS)
    before = rules(store)
    apply(store)
    store.cli("s3", "backstop", "--remove", "--by", "j.doe", "--yes")
    assert rules(store) == before
    assert rules(store, "product-logs") == []
    assert store.sql("SELECT rule FROM lifecycle.ledger ORDER BY seq DESC LIMIT 1") == [("removed",)]
    assert judged(store) == {}


def test_rules_that_may_not_be_read_are_told_and_are_drift_where_they_are_in_force(store: Store) -> None:
    from botocore.exceptions import ClientError

    def refuse(real: Any, **kwargs: Any) -> Any:
        raise ClientError({"Error": {"Code": "AccessDenied"}}, "GetBucketLifecycleConfiguration")

    apply(store)
    blind = altered(store.s3, get_bucket_lifecycle_configuration=refuse)
    with store.connect() as conn:
        found = standings(conn, blind, load_configuration())
        assert all(each.current is None for each in found)
    assert sum(each.in_force for each in found) == 3
    assert judged(store, blind) == {"backstop_drift": 3, "backstop_unreadable": 5}


def test_a_server_that_keeps_something_else_gets_its_former_rules_back(store: Store) -> None:
    """An old Ceph drops size filters: read back, such a rule would cover every object."""

    def drop(real: Any, **kwargs: Any) -> Any:
        sent = deepcopy(kwargs)
        for rule in sent["LifecycleConfiguration"]["Rules"]:
            rule["Filter"].pop("ObjectSizeGreaterThan", None)
        return real(**sent)

    give(store, THEIRS)
    before = rules(store)
    small = {"ID": "s", "Status": "Enabled", "Filter": {"Prefix": "a/", "ObjectSizeGreaterThan": 9}}
    forgetful = altered(store.s3, put_bucket_lifecycle_configuration=drop)
    with pytest.raises(VerificationError, match="its former rules were put back"):
        replace_rules(forgetful, DATA, lambda found: [*found, small | {"Expiration": {"Days": 1}}], normal)
    assert rules(store) == before


def test_what_is_missing_on_the_command_line_is_told(store: Store) -> None:
    assert "say who decides" in store.cli("s3", "backstop", "--apply", check=False).stderr
    assert "either --apply or --remove" in store.cli("s3", "backstop", "--apply", "--remove", check=False).stderr
    assert "nobody can be asked here" in store.cli("s3", "backstop", "--apply", "--by", "x", check=False).stderr
