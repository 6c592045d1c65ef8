"""The file of stores: refused by line and with a remedy, and without one everything is as it always was."""

from __future__ import annotations

from pathlib import Path

import pytest

from lifecycle.config import load_configuration
from lifecycle.connections import connection_id, environment_variable
from lifecycle.deployment import POSTGRES_ID, S3_ID, Store, current_store, stores, using
from lifecycle.errors import ConfigurationError
from lifecycle.shipped import SHIPPED_DATASETS, SHIPPED_STORES, shipped

TWO = """version: 1
policy: {policy}
stores:
  - name: chat
    datasets: {datasets}
    postgres: lifecycle_postgres_chat
  - name: gateway
    datasets: missing.yaml
    postgres: lifecycle_postgres_gateway
    s3: lifecycle_s3_gateway
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of stores that the environment names."""
    path = tmp_path / "stores.yaml"
    text = TWO.format(policy=shipped("policies/retention.yaml"), datasets=shipped(SHIPPED_DATASETS))
    path.write_text(text, encoding="utf-8")
    monkeypatch.setenv("LIFECYCLE_STORES", str(path))
    monkeypatch.delenv("LIFECYCLE_STORE", raising=False)
    return path


def edit(path: Path, before: str, after: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after), encoding="utf-8")


def refused() -> str:
    with pytest.raises(ConfigurationError) as caught:
        stores()
    return str(caught.value)


def test_without_a_file_there_is_one_store_with_the_names_that_always_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIFECYCLE_STORES", raising=False)
    monkeypatch.delenv("LIFECYCLE_STORE", raising=False)
    [only] = stores()
    assert only == current_store() == Store()
    assert (only.named("consumer"), only.pool("retention_s3"), only.titled("Retention")) == (
        "retention_consumer",
        "retention_s3",
        "Retention",
    )
    assert (only.told, only.tags, only.postgres, only.s3) == ({}, set(), POSTGRES_ID, S3_ID)


def test_a_store_asked_for_without_a_file_is_refused_not_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that does not see the file must not do the work of one store in another's database."""
    monkeypatch.delenv("LIFECYCLE_STORES", raising=False)
    with using("chat"), pytest.raises(ConfigurationError, match="LIFECYCLE_STORES names no file"):
        load_configuration()


def test_each_store_has_files_connections_and_names_of_its_own(write: Path) -> None:
    chat, gateway = stores()
    assert (chat.datasets, gateway.datasets) == (shipped(SHIPPED_DATASETS), write.parent / "missing.yaml")
    assert chat.policy == gateway.policy == shipped("policies/retention.yaml")
    assert (chat.named("consumer"), gateway.pool("retention_postgres")) == (
        "retention_chat_consumer",
        "retention_gateway_postgres",
    )
    assert (chat.told, chat.tags) == ({"store": "chat"}, {"store:chat"})
    with using("gateway"):
        assert connection_id(POSTGRES_ID) == "lifecycle_postgres_gateway"
        assert environment_variable(connection_id(S3_ID)) == "AIRFLOW_CONN_LIFECYCLE_S3_GATEWAY"


def test_what_is_wrong_with_one_store_is_no_business_of_another(write: Path) -> None:
    with using("chat"):
        assert load_configuration().catalog.has_messages
    with using("gateway"), pytest.raises(ConfigurationError, match=r"missing\.yaml"):
        load_configuration()


def test_with_several_stores_none_is_guessed(write: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="Choose with --store one of: chat, gateway"):
        current_store()
    monkeypatch.setenv("LIFECYCLE_STORE", "gateway")
    assert current_store().name == "gateway"
    with using("chat"):
        assert current_store().name == "chat"
    monkeypatch.setenv("LIFECYCLE_STORE", "shop")
    with pytest.raises(ConfigurationError, match="there is no store 'shop'"):
        current_store()


def test_a_store_named_default_keeps_the_names_of_a_single_one(write: Path) -> None:
    edit(write, "name: chat", "name: default")
    first = stores()[0]
    assert (first.named("consumer"), first.pool("retention_s3")) == ("retention_consumer", "retention_s3")
    assert first.told == {"store": "default"}


@pytest.mark.parametrize(
    ("before", "after", "line", "said"),
    [
        ("name: gateway", "name: chat", 7, "store 'chat' is listed twice"),
        ("name: gateway", "name: all", 7, "'all' stands for every store"),
        ("name: gateway", 'name: "a-b"', 7, "is not a name"),
        ("name: gateway", "name: Gateway", 7, "is not a name"),
        ("name: gateway", f"name: {'g' * 32}", 7, "is not a name"),
        ("lifecycle_postgres_gateway", "lifecycle_postgres_chat", 9, "have the same connection"),
        ("    datasets: missing.yaml\n", "", 7, "is missing"),
        ("s3: lifecycle_s3_gateway", "bucket: b", 10, "is not a known key"),
        ("version: 1", "version: 2", 1, "not allowed"),
    ],
)
def test_refusals_name_the_line_and_the_remedy(write: Path, before: str, after: str, line: int, said: str) -> None:
    edit(write, before, after)
    text = refused()
    assert f"stores.yaml:{line}: " in text
    assert said in text


def test_a_file_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LIFECYCLE_STORES", str(tmp_path / "none.yaml"))
    assert "none.yaml" in refused()


def test_a_changed_file_is_read_again(write: Path) -> None:
    assert [store.name for store in stores()] == ["chat", "gateway"]
    edit(write, "name: gateway", "name: gateway_two")
    assert [store.name for store in stores()] == ["chat", "gateway_two"]


def test_the_shipped_example_is_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFECYCLE_STORES", str(shipped(SHIPPED_STORES)))
    for store in stores():
        with using(store.name):
            assert load_configuration().catalog.evidence_bucket
