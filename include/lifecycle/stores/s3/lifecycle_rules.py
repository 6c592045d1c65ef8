"""Writes a bucket's lifecycle configuration whole, as S3 wants it, and proves what was written by reading it back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lifecycle.errors import PreconditionError, VerificationError
from lifecycle.stores.s3.errors import StoreError, translated

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Rule = Mapping[str, Any]
# What S3 gives beside the rules, and forgets unless it is sent again.
_BESIDE = "TransitionDefaultMinimumObjectSize"


def replace_rules(
    s3: S3Client, bucket: str, compose: Callable[[Sequence[Rule]], Sequence[Rule]], normal: Callable[[Rule], Any]
) -> None:
    """Read the rules, write what ``compose`` makes of them, read it back; put the former ones back if it differs.

    S3 has no condition for this request: who writes in between is noticed by reading back, and by the daily check.

    Args:
        normal: a form in which equal rules are equal, whatever the server made of them.

    Raises:
        VerificationError: the server kept something else than what was written; the former rules stand again.
        PreconditionError: more rules than S3 takes.
        StoreError: the request was refused.
    """
    former, beside = _read(s3, bucket)
    wanted = compose(former)
    if len(wanted) > 1_000:
        raise PreconditionError(f"bucket {bucket!r} would have {len(wanted)} lifecycle rules; S3 takes 1,000")
    _write(s3, bucket, wanted, beside)
    found, _ = _read(s3, bucket)
    if _forms(found, normal) != _forms(wanted, normal):
        _write(s3, bucket, former, beside)
        raise VerificationError(
            f"bucket {bucket!r} did not keep the lifecycle rules as they were written (an old Ceph drops size "
            "filters); its former rules were put back"
        )


def _read(s3: S3Client, bucket: str) -> tuple[list[Rule], dict[str, Any]]:
    try:
        with translated("GetBucketLifecycleConfiguration"):
            answer = s3.get_bucket_lifecycle_configuration(Bucket=bucket)
    except StoreError as refusal:
        if refusal.code == "NoSuchLifecycleConfiguration":
            return [], {}
        raise
    beside = {_BESIDE: answer[_BESIDE]} if _BESIDE in answer else {}  # type: ignore[literal-required]
    return [dict(rule) for rule in answer.get("Rules", [])], beside


def _write(s3: S3Client, bucket: str, rules: Sequence[Rule], beside: Mapping[str, Any]) -> None:
    if not rules:
        with translated("DeleteBucketLifecycle"):
            s3.delete_bucket_lifecycle(Bucket=bucket)
        return
    configuration: Any = {"Rules": [dict(rule) for rule in rules]}
    with translated("PutBucketLifecycleConfiguration"):
        s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=configuration, **beside)


def _forms(rules: Sequence[Rule], normal: Callable[[Rule], Any]) -> list[str]:
    return sorted(repr(sorted(normal(rule).items())) for rule in rules)
