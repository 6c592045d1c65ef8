"""While a configuration is not approved, only what the one in force decides alike is carried out (case 20)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from lifecycle.config import load_configuration
from oracle.facts import Hold, LogRecord, Message, Score, World, ident
from oracle.named import AS_OF, DAY, flag, in_landing, in_partition, message
from oracle.stores import Ran, Servers, at, look, run
from support.edits import Edit, lead, narrowed, order, period, put, without, write_policy
from support.scopes import carry_out
from support.store import Store

TOMORROW = AS_OF + DAY


@dataclass
class Place:
    """A store after a first run under the shipped policy, and a way to load another policy."""

    store: Store
    load: Callable[..., None]

    def run(self, as_of: datetime = TOMORROW, *scopes: str) -> Ran:
        """The consumer scope, or others, with their validations."""
        return carry_out(as_of, *scopes)

    def approvals(self) -> list[tuple[object, ...]]:
        return self.store.sql("SELECT subject, status, decided_by FROM lifecycle.approvals ORDER BY approval_id")

    def here(self, *messages: Message) -> list[bool]:
        return [
            bool(self.store.sql("SELECT 1 FROM app.messages WHERE message_id = %s", m.message_id)) for m in messages
        ]

    def quarantined(self, m: Message) -> bool:
        return bool(self.store.sql("SELECT 1 FROM lifecycle.quarantine WHERE message_id = %s", m.message_id))


@pytest.fixture
def begun(servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Place]]:
    """Makes a store with a world, runs it once under the shipped policy with no tolerance for changes."""
    from contextlib import ExitStack

    def load(*edits: Edit) -> None:
        monkeypatch.setenv("LIFECYCLE_POLICY", str(write_policy(tmp_path, put("approval", records=0), *edits)))

    with ExitStack() as stack:

        def make(world: World, *edits: Edit, scopes: tuple[str, ...] = ()) -> Place:
            load(*edits)
            store = stack.enter_context(servers.store(world))
            for name, value in store.env.items():
                monkeypatch.setenv(name, value)
            assert carry_out(AS_OF, *scopes, validated=False).code == 0
            return Place(store, load)

        yield make


def test_the_first_configuration_approves_itself_and_says_so(begun: Callable[..., Place]) -> None:
    place = begun(World(messages=(message("m", age=DAY),)))
    assert place.approvals() == [("policy", "automatic", "lifecycle")]
    [(entry, disposition, rule, counts)] = place.store.sql(
        "SELECT entry, disposition, rule, counts FROM lifecycle.ledger WHERE entry = 'decision'"
    )
    assert (entry, disposition, rule, counts["by"]) == ("decision", "approve", "automatic", "lifecycle")
    verified = json.loads(place.store.cli("ledger", "verify", "--json").stdout)
    assert verified["copies_compared"] == verified["rows"], "the decision has its write-once copy too"
    [copy] = place.store.keys("lifecycle-evidence", "ledger/decisions/")
    [version] = place.store.versions("lifecycle-evidence", copy)
    place.store.s3.delete_object(Bucket="lifecycle-evidence", Key=copy, VersionId=version.version_id)
    assert place.run().code == 0
    assert len(place.approvals()) == 1, "asked once"
    assert place.store.keys("lifecycle-evidence", "ledger/decisions/") == [copy], "made good after a kill before it"


def test_a_shorter_period_waits_and_the_undisputed_part_goes_on(begun: Callable[..., Place]) -> None:
    disputed = message("disputed", age=DAY * 50)
    in_s3 = in_partition(message("disputed object", age=DAY * 50))
    due_both = message("due tomorrow", age=DAY * 87 - timedelta(hours=12))
    place = begun(World(messages=(disputed, in_s3, due_both)))
    place.load(period("consumer_default", "P30D"))
    done = place.run()
    assert done.code == 0, str(done)
    assert place.here(disputed, in_s3, due_both) == [True, True, False]
    assert place.store.keys("product-data") == [in_s3.partitioned_key]
    assert place.approvals()[-1] == ("policy", "pending", None)
    asked = place.store.value("SELECT shown FROM lifecycle.approvals WHERE status = 'pending'")
    assert (asked["newly_expire"], asked["affected"]) == (2, 2)
    again = place.run(TOMORROW + DAY)
    assert again.code == 0, str(again)
    assert place.here(disputed, in_s3) == [True, True]
    assert len(place.approvals()) == 2, "one request, however many runs find it unanswered"


def test_an_explanation_says_what_the_policy_in_force_decides_otherwise(begun: Callable[..., Place]) -> None:
    disputed, young = message("disputed", age=DAY * 50), message("young", age=DAY)
    place = begun(World(messages=(disputed, young)))
    place.load(period("consumer_default", "P30D"))
    assert place.run().code == 0

    def told(*name: str) -> list[str]:
        shown = place.store.cli("explain", *name, "--as-of", at(TOMORROW), "--json")
        found: list[str] = json.loads(shown.stdout)["waits"]
        return found

    [says] = told("message", str(disputed.message_id))
    until = f"{disputed.received_at + DAY * 90:%Y-%m-%d}"
    assert f"decides otherwise: keep until {until} (rule consumer_default)" in says
    assert told("message", str(young.message_id)) == [], "both keep it"
    [general] = told("partition", f"messages/consumer/{disputed.received_at:%Y-%m-%d}")
    assert general.endswith("until then runs do only what the one in force decides alike.")


def test_what_was_kept_for_want_of_an_approval_is_shown(begun: Callable[..., Place]) -> None:
    near = message("goes", age=DAY * 87 - timedelta(hours=12))
    waits = message("waits", age=DAY * 87 - timedelta(hours=11), conversation="w")
    place = begun(World(messages=(near, waits), partitions=frozenset({("consumer", near.received_at.date())})))
    place.load(lead("failed_runs", "P2D"))
    as_of = TOMORROW - timedelta(minutes=30)
    shown = place.run(as_of).json["scopes"]["consumer"]
    assert shown["kept"].get("awaiting_approval", 0) + shown["disposed"].get("delete", 0) == 2


@pytest.mark.parametrize("name", ["awaited", "approved"])
def test_an_approval_lets_the_rest_go(begun: Callable[..., Place], name: str) -> None:
    disputed = message("disputed", age=DAY * 50)
    place = begun(World(messages=(disputed,)))
    place.load(period("consumer_default", "P30D"))
    if name == "awaited":
        assert place.run().code == 0
        assert place.here(disputed) == [True]
    digest = load_configuration().policy_hash
    answer = (
        "policy",
        "approve",
        digest[:12],
        "--by",
        "counsel",
        "--comment",
        "agreed 12 May",
        "--as-of",
        at(TOMORROW),
    )
    refused = place.store.cli(*answer, check=False)
    assert (refused.returncode, place.approvals()[-1][1]) == (1, "pending" if name == "awaited" else "automatic")
    assert "repeat the command with --yes" in refused.stderr
    done = place.store.cli(*answer, "--yes")
    assert "1 newly" in " ".join(done.stdout.split())
    assert place.run(TOMORROW + DAY).code == 0
    assert place.here(disputed) == [False]
    assert place.approvals()[-1] == ("policy", "approved", "counsel")
    said = place.store.value("SELECT counts FROM lifecycle.ledger WHERE entry = 'decision' ORDER BY seq DESC LIMIT 1")
    assert (said["by"], said["newly_expire"]) == ("counsel", 1)
    assert "agreed" not in json.dumps(said), "free text stays out of the ledger"


def test_a_rejected_configuration_goes_on_waiting(begun: Callable[..., Place]) -> None:
    disputed = message("disputed", age=DAY * 50)
    place = begun(World(messages=(disputed,)))
    place.load(period("consumer_default", "P30D"))
    assert place.run().code == 0
    digest = load_configuration().policy_hash
    place.store.cli("policy", "reject", digest[:12], "--by", "counsel")
    assert place.run(TOMORROW + DAY).code == 0
    assert place.here(disputed) == [True]
    assert place.approvals()[-1] == ("policy", "rejected", "counsel")


def test_a_longer_period_waits_too(begun: Callable[..., Place]) -> None:
    """Keeping longer than promised is no smaller matter; what only the old policy would delete stays meanwhile."""
    spared = message("spared", age=DAY * 87 - timedelta(hours=12))
    place = begun(World(messages=(spared,)))
    place.load(period("consumer_default", "P120D"))
    assert place.run().code == 0
    assert place.here(spared) == [True]
    assert place.store.value("SELECT shown FROM lifecycle.approvals WHERE status = 'pending'")["expire_later"] == 1


def test_below_the_thresholds_it_approves_itself_and_says_so(begun: Callable[..., Place]) -> None:
    old = message("old", age=DAY * 50)
    many = tuple(message(f"other {n}", "business", DAY) for n in range(30))
    place = begun(World(messages=(old, *many)), put("approval", records=1, share=0.1))
    place.load(put("approval", records=1, share=0.1), period("consumer_default", "P30D"))
    done = place.run()
    assert place.approvals()[-1] == ("policy", "automatic", "lifecycle")
    assert place.here(old) == [False]
    assert done.json["scopes"]["consumer"]["approvals"][0]["status"] == "automatic"


def test_many_small_steps_are_one_large_one(begun: Callable[..., Place]) -> None:
    """Each touches one record, which two may be; the third is asked about, and a yes by name begins a new count."""
    old = [message(f"aged {age}", age=DAY * age) for age in (63, 53, 43, 33)]
    many = tuple(message(f"other {n}", "business", DAY) for n in range(30))
    few = put("approval", records=2, share=0.9)
    place = begun(World(messages=(*old, *many)), few)
    for step, days in enumerate((60, 50, 40)):
        place.load(few, period("consumer_default", f"P{days}D"))
        assert place.run(TOMORROW + DAY * step).code == 0
    assert [status for _, status, _ in place.approvals()] == ["automatic", "automatic", "automatic", "pending"]
    assert place.here(*old) == [False, False, True, True]
    asked = place.store.value("SELECT shown ->> 'reason' FROM lifecycle.approvals WHERE status = 'pending'")
    assert asked == "it touches 1 records with the 2 of changes that approved themselves, more than 2"
    place.store.cli("policy", "approve", load_configuration().policy_hash, "--by", "counsel", "--yes")
    place.load(few, period("consumer_default", "P30D"))
    assert place.run(TOMORROW + DAY * 3).code == 0
    assert (place.approvals()[-1][1], place.here(*old)) == ("automatic", [False] * 4)


def test_a_promise_is_not_lengthened_on_a_day_on_which_nothing_is_due(begun: Callable[..., Place]) -> None:
    """No record's fate differs today, so there is nothing to count, and all would stay longer from tomorrow on."""
    generous = put("approval", records=10**6, share=1.0)
    place = begun(World(messages=(message("young", age=DAY),)), generous)
    place.load(generous, period("consumer_default", "P10Y"))
    assert place.run().code == 0
    [(affected, loosened)] = place.store.sql(
        "SELECT shown ->> 'affected', shown ->> 'loosened' FROM lifecycle.approvals WHERE status = 'pending'"
    )
    assert (affected, loosened) == ("0", '["rules.consumer_default"]')


def test_a_change_that_loosens_the_safeguards_never_approves_itself(begun: Callable[..., Place]) -> None:
    place = begun(World(messages=(message("m", age=DAY),)))
    place.load(put("approval", records=10**9, share=1.0))
    assert place.run().code == 0
    assert place.approvals()[-1] == ("policy", "pending", None)
    assert "approval.records" in place.store.value(
        "SELECT shown ->> 'reason' FROM lifecycle.approvals WHERE status = 'pending'"
    )


def test_flags_moves_and_quarantine_wait_alike(begun: Callable[..., Place]) -> None:
    """A policy without the flag rule: nothing new goes into quarantine, nothing comes out of it."""
    before, later = message("flagged before", age=DAY * 5), message("flagged later", age=DAY * 5)
    place = begun(World(messages=(before, later), flags=(flag(before),)))
    assert place.quarantined(before)
    store = place.store
    store.insert("app.safety_flags", message_id=later.message_id, account_id=later.account_id, flagged_at=AS_OF)
    place.load(without("safety_flagged"))
    assert carry_out(TOMORROW, validated=False).code == 0
    assert place.quarantined(before)
    assert place.here(before, later) == [False, True]


def test_a_narrower_hold_rule_frees_nothing_before_its_approval(begun: Callable[..., Place]) -> None:
    held = message("held", age=DAY * 100)
    landed = in_landing(message("held landing", age=DAY * 2))
    quarantined = message("held in quarantine", age=DAY * 5)
    holds = tuple(Hold(ident("hold", m.message_id), "account", str(m.account_id), AS_OF - DAY) for m in (held, landed))
    place = begun(World(messages=(held, landed, quarantined), holds=holds, flags=(flag(quarantined),)))
    place.store.insert(
        "lifecycle.legal_holds", scope="message", target=str(quarantined.message_id), reason="r", placed_by="p"
    )
    assert carry_out(AS_OF, validated=False).code == 0
    assert place.store.value("SELECT legal_hold FROM lifecycle.quarantine") is True
    place.load(narrowed("legal_obligation", "evaluation"))
    place.store.sql("UPDATE app.safety_flags SET cleared_at = %s", AS_OF)
    assert carry_out(TOMORROW, validated=False).code == 0
    assert place.here(held, landed) == [True, True]
    assert place.store.keys("product-data") == [landed.landing_key], "a held object does not move"
    assert place.quarantined(quarantined)
    assert place.store.value("SELECT legal_hold FROM lifecycle.quarantine") is True


def test_records_and_log_lines_wait_alike(begun: Callable[..., Place]) -> None:
    m = message("m", age=DAY * 40)
    line = LogRecord(
        f"requests/date={m.received_at.date().isoformat()}/part-0.jsonl.gz",
        m.message_id,
        m.account_id,
        m.tier,
        m.received_at,
        "GET /v1 200",
    )
    score = Score(ident("score"), m.message_id, m.account_id, m.tier, AS_OF - DAY * 400)
    place = begun(World(messages=(m,), logs=(line,), scores=(score,)))
    place.load(period("consumer_default", "P30D"), period("safety_scores", "P1Y"))
    assert place.run(TOMORROW, "records").code == 0
    seen = look(place.store)
    assert (len(seen.logs), len(seen.scores)) == (1, 1)
    digest = load_configuration().policy_hash
    place.store.cli("policy", "approve", digest[:12], "--by", "counsel", "--yes")
    assert place.run(TOMORROW + DAY, "records").code == 0
    seen = look(place.store)
    assert (len(seen.logs), len(seen.scores)) == (0, 0)


def test_an_erasure_request_is_not_done_while_something_of_it_waits(begun: Callable[..., Place]) -> None:
    """The loaded policy lets erasure outrank flags, the one in force does not."""
    m = message("m", age=DAY * 5)
    place = begun(World(messages=(m,)))
    place.store.insert("app.safety_flags", message_id=m.message_id, account_id=m.account_id, flagged_at=AS_OF)
    place.store.insert("lifecycle.erasure_requests", scope="account", target=str(m.account_id), requested_at=AS_OF)
    place.load(order("hold", "case", "erasure", "flag", "consent", "agreement", "default"))
    done = place.run(TOMORROW, "erasure")
    assert done.json["scopes"]["erasure"]["requests open"] == 1
    assert place.here(m) == [True]
    assert place.store.value("SELECT outcome FROM lifecycle.erasure_requests") is None


def test_a_dry_run_foretells_the_guarded_run_case_21(begun: Callable[..., Place]) -> None:
    place = begun(
        World(messages=(message("disputed", age=DAY * 50), message("due", age=DAY * 87 - timedelta(hours=12))))
    )
    place.load(period("consumer_default", "P30D"))
    before = place.store.sql("SELECT * FROM lifecycle.approvals")
    dry = run(place.store, TOMORROW, "--dry-run", "--tier", "consumer")
    assert place.store.sql("SELECT * FROM lifecycle.approvals") == before
    assert dry.scope("consumer") == place.run().scope("consumer") == {"delete": 1}


def test_the_guard_holds_through_a_resumed_run(begun: Callable[..., Place]) -> None:
    """Approved in the middle of a run: that run still does what it planned, the next one does the rest."""
    from lifecycle.orchestration import steps

    disputed = message("disputed", age=DAY * 50)
    place = begun(World(messages=(disputed,)))
    place.load(period("consumer_default", "P30D"))
    run_id = steps.begin("consumer", TOMORROW, run_key="test/1")
    steps.plan(run_id)
    place.store.cli("policy", "approve", load_configuration().policy_hash, "--by", "counsel", "--yes")
    assert steps.begin("consumer", TOMORROW, run_key="test/1") == run_id
    assert steps.units(run_id) == []
    steps.fail(run_id)
    assert place.here(disputed) == [True]
    assert carry_out(TOMORROW, validated=False).code == 0
    assert place.here(disputed) == [False]


def test_what_is_overdue_under_both_stays_critical(begun: Callable[..., Place]) -> None:
    """Case 7: an unanswered approval is no excuse for what the policy in force would not have kept either."""
    disputed = message("disputed", age=DAY * 50)
    place = begun(World(messages=(disputed,)))
    place.load(period("consumer_default", "P30D"))
    assert place.run().code == 0
    place.store.insert_message(received_at=AS_OF - DAY * 100)
    as_of = TOMORROW + timedelta(hours=1)
    audit = json.loads(place.store.cli("audit", "--as-of", at(as_of), "--json", check=False).stdout)
    found = {check["name"]: check["violations"] for check in audit["checks"]}
    assert (found["messages_past_deadline.consumer"], found["late_awaiting_approval.consumer"]) == (1, 1)


def test_four_eyes_and_approvers_of_the_policy_in_force_count_case_28(begun: Callable[..., Place]) -> None:
    """Whoever started the run that asked may not approve, nor anybody whom the policy in force does not name."""
    rules = put("approval", four_eyes=True, approvers=["starter", "counsel"])
    place = begun(World(messages=(message("disputed", age=DAY * 50),)), rules)
    place.load(period("consumer_default", "P30D"))
    assert place.run().code == 0
    answer = ("policy", "approve", "loaded", "--yes", "--by")
    for name, says in (("starter", "second pair of eyes"), ("somebody", "not among the approvers")):
        refused = place.store.cli(*answer, name, check=False)
        assert (refused.returncode, says in refused.stderr) == (1, True)
        assert place.approvals()[-1] == ("policy", "pending", None)
    place.store.cli(*answer, "counsel")
    assert place.approvals()[-1] == ("policy", "approved", "counsel")
