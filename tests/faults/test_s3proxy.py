"""The instrument is tested before it is trusted: the proxy forwards everything and steps in where it is told to."""

from __future__ import annotations

from datetime import timedelta
from email.utils import parsedate_to_datetime

import pytest

from oracle.s3proxy import Request, proxied
from oracle.stores import Servers

pytestmark = pytest.mark.embedded_s3


def test_the_proxy_forwards_every_kind_of_request(servers: Servers) -> None:
    with servers.store(), proxied(servers.s3_server) as (proxy, endpoint):
        s3 = endpoint.client()
        s3.put_object(
            Bucket="product-data", Key="a/ü b.json", Body=b"x" * 100_000, ContentType="text/x", Metadata={"k": "v"}
        )
        s3.copy_object(Bucket="product-data", Key="b", CopySource={"Bucket": "product-data", "Key": "a/ü b.json"})
        answer = s3.get_object(Bucket="product-data", Key="b")
        assert (answer["Body"].read(), answer["ContentType"], answer["Metadata"]) == (
            b"x" * 100_000,
            "text/x",
            {"k": "v"},
        )
        assert s3.head_object(Bucket="product-data", Key="b")["ContentLength"] == 100_000
        s3.delete_objects(Bucket="product-data", Delete={"Objects": [{"Key": "b"}]})
        s3.delete_object(Bucket="product-data", Key="a/ü b.json")
        assert s3.list_objects_v2(Bucket="product-data").get("KeyCount") == 0
        assert [r.method for r in proxy.seen if r.destroys] == ["POST", "DELETE"]
        assert [r.key for r in proxy.seen if r.copy_source] == ["b"]


def test_the_proxy_steps_in_and_moves_the_clock(servers: Servers) -> None:
    with servers.store(), proxied(servers.s3_server) as (proxy, endpoint):
        s3, seen = endpoint.client(), list[Request]()
        proxy.before = seen.append
        date = s3.list_buckets()["ResponseMetadata"]["HTTPHeaders"]["date"]
        proxy.skew = timedelta(hours=1)
        moved = s3.list_buckets()["ResponseMetadata"]["HTTPHeaders"]["date"]
        assert (
            timedelta(minutes=59) < parsedate_to_datetime(moved) - parsedate_to_datetime(date) < timedelta(minutes=61)
        )
        assert len(seen) == 2
