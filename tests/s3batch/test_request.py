"""The request of a job is one that S3 would accept: held to botocore's own model of it. Pure."""

from __future__ import annotations

import csv
from typing import Any
from urllib.parse import unquote_plus

import botocore.session
import pytest
from botocore.validate import validate_parameters
from hypothesis import given
from hypothesis import strategies as st

from lifecycle.errors import PreconditionError
from lifecycle.s3batch.request import Job, Operation, Place, create_job, manifest_line, role_policy, trust_policy

ROLE = "arn:aws:iam::123456789012:role/lifecycle-batch"
PLACE = Place.parse("s3://batch-jobs/lifecycle")
TAG = Job(Operation.TAG, PLACE, ROLE, "product-data", tags=(("stays", "yes"),))
COPY = Job(Operation.COPY, PLACE, ROLE, "product-data", target=Place.parse("s3://kept-data/consumer/"))


@pytest.fixture(scope="module")
def model() -> Any:
    return botocore.session.get_session().get_service_model("s3control").operation_model("CreateJob").input_shape


@pytest.mark.parametrize("job", [TAG, COPY], ids=["tag", "copy"])
def test_a_request_is_what_botocore_takes(model: Any, job: Job) -> None:
    request = create_job(job, "0" * 64, "etag", 7)
    validate_parameters(request, model)
    unknown = sorted(set(_names(request, model)))
    assert unknown == []


def _names(value: Any, shape: Any) -> list[str]:
    """Names that the model does not know: botocore's validation refuses none but the outermost."""
    if shape.type_name == "structure":
        known = [found for name in value if name in shape.members for found in _names(value[name], shape.members[name])]
        return [*(name for name in value if name not in shape.members), *known]
    if shape.type_name == "list":
        return [found for each in value for found in _names(each, shape.member)]
    allowed = getattr(shape, "enum", [])
    return [str(value)] if allowed and value not in allowed else []


@pytest.mark.parametrize("job", [TAG, COPY], ids=["tag", "copy"])
def test_nothing_starts_by_itself_and_every_task_is_told(job: Job) -> None:
    request = create_job(job, "0" * 64, "etag", 7)
    assert request["ConfirmationRequired"] is True
    assert (request["Report"]["Enabled"], request["Report"]["ReportScope"]) == (True, "AllTasks")
    assert not any("Delete" in name for name in request["Operation"])


def test_a_job_written_again_is_the_same_job_and_another_is_not() -> None:
    """Promise 4: CreateJob with a token that is known answers with the job that is there."""
    tokens = {
        create_job(job, sha, "etag", 7)["ClientRequestToken"]
        for job in (TAG, TAG, COPY)
        for sha in ("a" * 64, "b" * 64)
    }
    assert len(tokens) == 4
    assert all(len(token) <= 64 for token in tokens)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_key_is_one_field_of_one_line(key: str) -> None:
    """Commas, quotes, line ends, plus signs: read back by a form decoder, which takes a plus for a blank."""
    line = manifest_line("product-data", key, "null")
    assert line.endswith("\r\n") and line.isascii()
    ((bucket, encoded, version),) = csv.reader([line])
    assert (bucket, unquote_plus(encoded), version) == ("product-data", key, "null")


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"role": "lifecycle-batch"}, "arn:aws:iam"),
        ({"tags": ()}, "--tag"),
        # A lifecycle rule would remove whatever has such a tag, and these must stay (promise 1).
        ({"tags": (("lifecycle-expires", "consumer_default"),)}, "otherwise"),
        ({"tags": (("stays", "yes"), ("goes", "x")), "ticket": "goes"}, "otherwise"),
        ({"operation": Operation.COPY}, "--target"),
        ({"operation": Operation.COPY, "target": Place("product-data", "")}, "onto itself"),
    ],
)
def test_a_job_that_cannot_be_is_refused_with_the_remedy(changed: dict[str, Any], what: str) -> None:
    told: dict[str, Any] = {"operation": TAG.operation, "role": ROLE, "tags": TAG.tags, "target": None} | changed
    with pytest.raises(PreconditionError, match=what):
        Job(place=PLACE, source="product-data", **told)


@pytest.mark.parametrize("job", [TAG, COPY], ids=["tag", "copy"])
def test_the_role_can_delete_nothing_and_only_batch_operations_takes_it(job: Job) -> None:
    actions = [action for statement in role_policy(job)["Statement"] for action in statement["Action"]]
    assert actions and not any("Delete" in action or "*" in action for action in actions)
    (statement,) = trust_policy(job)["Statement"]
    assert statement["Principal"] == {"Service": "batchoperations.s3.amazonaws.com"}
    assert statement["Condition"] == {"StringEquals": {"aws:SourceAccount": "123456789012"}}


@pytest.mark.parametrize("text", ["bucket/prefix", "s3://", "s3://UPPER/x", "https://bucket"])
def test_a_place_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(PreconditionError, match="s3://bucket/prefix"):
        Place.parse(text)
