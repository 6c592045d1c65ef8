"""The compiled rules on a server that carries them out: a lifecycle day of this Ceph gateway lasts seconds.

`make test-s3-ceph` says how many in LIFECYCLE_TEST_S3_DAY. Cases 1, 2, 3, 14; promise 1.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from lifecycle.backstop.compare import merged, normal, own_digest, wanted_digest
from lifecycle.backstop.compile import compile_backstop, ticket_of
from lifecycle.catalog.buckets import Backstop
from lifecycle.catalog.models import Catalog, Messages
from lifecycle.demo.servers import S3Server
from lifecycle.policy.models import Tier
from lifecycle.stores.s3.lifecycle_rules import replace_rules
from lifecycle.stores.s3.tickets import give_ticket, take_tickets
from reference_store.create import BucketSpec
from stores.s3 import LOCKED, VERSIONED
from support.buckets import fresh_buckets, list_versions
from support.edits import lead, period, shipped_policy

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = [pytest.mark.ceph, pytest.mark.timeout(500)]
TAG, DAYS, PATIENCE_S = "lifecycle-expires", 3, 150
POLICY = shipped_policy(lead("failed_runs", "P0D"), period("business_default", f"P{DAYS}D"))
DAY_AT = "tier=business/date=2026-01-01/"
ORDINARY, TWICE, RELEASED = f"{DAY_AT}ordinary.json", f"{DAY_AT}twice.json", f"{DAY_AT}released.json"
KEPT, OTHER_RULE, SHIELDED = f"{DAY_AT}kept.json", f"{DAY_AT}other-rule.json", f"{DAY_AT}shielded.json"
LANDED, STUDIED = "landing/landed.json", "tier=evaluation/date=2026-01-01/studied.json"
UPLOADED, LONE, FOREIGN = f"{DAY_AT}uploaded.json", f"{DAY_AT}lone.json", "exports/foreign.csv"
THEIRS = {"ID": "exports", "Status": "Enabled", "Filter": {"Prefix": "exports/"}, "Expiration": {"Days": 1}}


def day() -> float:
    """Seconds that a lifecycle day lasts on this server."""
    return float(os.environ["LIFECYCLE_TEST_S3_DAY"])


def until(reached: Callable[[], bool], what: str) -> float:
    """Wait for a state of the server; the instant at which it was seen (monotonic, seconds)."""
    end = time.monotonic() + PATIENCE_S
    while not reached():
        assert time.monotonic() < end, f"not reached in {PATIENCE_S} s: {what}"
        time.sleep(0.2)
    return time.monotonic()


@dataclass(frozen=True)
class Struck:
    """What was left after S3 had acted, and when the first of our objects was hidden, seconds after it was written.

    ``held``: the version under legal hold in the bucket with Object Lock, whose rule is not one of ours.
    """

    left: dict[str, list[bool]]
    uploads: int
    hidden_after: float
    held: str


def left(s3: S3Client) -> dict[str, list[bool]]:
    """Per key whether each of its versions is a delete marker."""
    found: dict[str, list[bool]] = {}
    for version in list_versions(s3, VERSIONED):
        found.setdefault(version.key, []).append(version.is_marker)
    return found


def put_held(s3: S3Client) -> str:
    """A version under legal hold, below a rule as one would naively write it."""
    version = s3.put_object(Bucket=LOCKED, Key="held", Body=b"x")["VersionId"]
    s3.put_object_legal_hold(Bucket=LOCKED, Key="held", VersionId=version, LegalHold={"Status": "ON"})
    rule = {"ID": "naive", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}}
    s3.put_bucket_lifecycle_configuration(Bucket=LOCKED, LifecycleConfiguration={"Rules": [rule]})  # type: ignore[list-item]
    return version


@pytest.fixture(scope="module")
def catalog_with_tickets(catalog: Catalog) -> Catalog:
    objects = catalog.messages.objects.model_copy(update={"backstop": Backstop(tag=TAG)})
    messages = catalog.messages.model_copy(update={"objects": objects})
    others = [dataset for dataset in catalog.datasets if not isinstance(dataset, Messages)]
    return catalog.model_copy(update={"datasets": (messages, *others)})


@pytest.fixture(scope="module")
def struck(
    s3_server: S3Server,
    s3_session_client: S3Client,
    buckets: tuple[BucketSpec, ...],
    catalog_with_tickets: Catalog,
) -> Iterator[Struck]:
    s3 = s3_session_client
    fresh_buckets(s3_server, s3, buckets)
    held = put_held(s3)
    began = time.monotonic()
    for key in (ORDINARY, TWICE, TWICE, RELEASED, KEPT, OTHER_RULE, SHIELDED, LANDED, STUDIED, FOREIGN, LONE):
        s3.put_object(Bucket=VERSIONED, Key=key, Body=b"{}", Tagging="team=red")
    s3.create_multipart_upload(Bucket=VERSIONED, Key=UPLOADED)
    ticket = ticket_of(POLICY, catalog_with_tickets.messages, Tier.BUSINESS)
    assert ticket is not None
    for key in (ORDINARY, TWICE, RELEASED, SHIELDED, LANDED, STUDIED):
        assert give_ticket(s3, VERSIONED, key, ticket.key, ticket.value)
    assert give_ticket(s3, VERSIONED, OTHER_RULE, TAG, "consumer_default")
    assert take_tickets(s3, VERSIONED, SHIELDED, {TAG}) == 1
    s3.delete_object(Bucket=VERSIONED, Key=LONE)
    lone = [version for version in list_versions(s3, VERSIONED, LONE) if not version.is_marker]
    s3.delete_object(Bucket=VERSIONED, Key=LONE, VersionId=lone[0].version_id)
    s3.put_bucket_lifecycle_configuration(Bucket=VERSIONED, LifecycleConfiguration={"Rules": [THEIRS]})  # type: ignore[list-item]
    wanted = compile_backstop(POLICY, catalog_with_tickets).rules(VERSIONED)
    replace_rules(s3, VERSIONED, lambda found: merged(found, wanted), normal)
    there = s3.get_bucket_lifecycle_configuration(Bucket=VERSIONED)["Rules"]
    assert own_digest(there) == wanted_digest(wanted)
    hidden = until(lambda: True in left(s3).get(ORDINARY, [True]), "the ordinary object is hidden")
    until(lambda: left(s3).keys().isdisjoint((ORDINARY, RELEASED, LONE)), "what has a ticket is gone")
    until(lambda: not s3.list_multipart_uploads(Bucket=VERSIONED).get("Uploads"), "the upload is aborted")
    until(lambda: True in left(s3)[FOREIGN], "the other rule has acted")
    until(lambda: any(found.is_marker for found in list_versions(s3, LOCKED)), "a marker lies over the held version")
    s3.delete_bucket_lifecycle(Bucket=LOCKED)
    uploads = s3.list_multipart_uploads(Bucket=VERSIONED).get("Uploads", [])
    yield Struck(left(s3), len(uploads), hidden - began, held)
    s3.delete_bucket_lifecycle(Bucket=VERSIONED)


def test_what_has_a_ticket_is_gone_with_its_versions_and_markers(struck: Struck) -> None:
    """Case 2: hidden at the deadline, and really gone a day later; no marker is left of it."""
    assert ORDINARY not in struck.left
    assert RELEASED not in struck.left


def test_case_1_not_before_its_days_have_passed(struck: Struck) -> None:
    """This gateway counts from the second in which an object was written, so up to a second is its own."""
    assert struck.hidden_after > DAYS * day() - 1


@pytest.mark.parametrize("key", [KEPT, OTHER_RULE, SHIELDED, LANDED, STUDIED])
def test_what_has_no_ticket_of_the_rule_stays_whole(struck: Struck, key: str) -> None:
    """Promise 1: without a ticket, with another tier's, taken back, in landing, in a tier that is de-identified."""
    assert struck.left[key] == [False]


def test_an_old_version_without_a_ticket_is_no_business_of_the_rule(struck: Struck) -> None:
    """Tags are of versions: the run gave one to the version it judged."""
    assert struck.left[TWICE].count(False) == 1


def test_case_14_leftovers_are_tidied_up(struck: Struck) -> None:
    """Case 14: an unfinished upload, and a delete marker with nothing below it."""
    assert struck.uploads == 0
    assert LONE not in struck.left


def test_rules_of_others_go_on(struck: Struck) -> None:
    assert any(struck.left[FOREIGN]), "their rule has laid no delete marker"


def test_case_3_why_quarantine_has_no_expiration(struck: Struck, s3_session_client: S3Client) -> None:
    """Case 3: an expiration lays a delete marker over a version under legal hold, and what is held looks gone."""
    found = {version.version_id: version.is_marker for version in list_versions(s3_session_client, LOCKED)}
    assert found[struck.held] is False
    assert any(found.values()), "no delete marker lies over what is held"
    with pytest.raises(s3_session_client.exceptions.ClientError, match="404"):
        s3_session_client.head_object(Bucket=LOCKED, Key="held")
