"""A cluster that is configured prepares log objects; no AWS answers here, so requests are held to botocore's model."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import botocore.session
import pytest
from airflow.sdk import DAG
from botocore.stub import ANY, Stubber

from lifecycle.deployment import Store
from lifecycle.errors import ConfigurationError
from lifecycle.orchestration import dag_factory
from lifecycle.orchestration.cluster import Cluster, configured

ENVIRONMENT = {
    "LIFECYCLE_EMR_APPLICATION": "00f1abcdefg23h09",
    "LIFECYCLE_EMR_ROLE": "arn:aws:iam::123456789012:role/lifecycle-spark",
    "LIFECYCLE_EMR_ENTRY_POINT": "s3://code/lifecycle/job.py",
    "LIFECYCLE_EMR_PARAMETERS": "--archives s3://code/lifecycle/environment.tar.gz#environment",
}
PLACE = "s3://staging/lifecycle/run-7/request_logs/"
OURS = {"export", "drivers", "spark", "prepared"}


def made(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], scope: str = "records") -> DAG:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with DAG(dag_id="retention_test", schedule=None) as dag:
        dag_factory.retention_run(scope, Store())
    return dag


@pytest.mark.parametrize(("environment", "scope"), [({}, "records"), (ENVIRONMENT, "consumer")])
def test_without_a_cluster_or_logs_the_dag_is_what_it_was(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], scope: str
) -> None:
    assert OURS.isdisjoint(made(monkeypatch, environment, scope).task_ids)


def test_the_job_lies_between_plan_and_units_and_is_waited_for_by_nobody_s_slot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dag = made(monkeypatch, ENVIRONMENT)
    assert set(dag.task_ids) >= OURS
    assert "plan" in dag.get_task("export").upstream_task_ids
    assert dag.get_task("shards").upstream_task_ids == {"quarantine", "prepared", "check"}
    spark: Any = dag.get_task("spark")
    assert spark.partial_kwargs["deferrable"] is True


def test_a_cluster_that_fails_is_in_nobody_s_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 2: units are handed out whatever became of the job, and not before quarantine has succeeded."""
    dag = made(monkeypatch, ENVIRONMENT)
    assert dag.get_task("prepared").trigger_rule == "all_done"
    assert dag.get_task("prepared").upstream_task_ids == {"spark"}
    assert dag.get_task("shards").trigger_rule == "all_success"


def test_what_the_operator_sends_is_what_emr_serverless_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow's own operator, and a client that knows the service's model and answers instead of it."""
    from airflow.providers.amazon.aws.operators.emr import EmrServerlessStartJobOperator

    mapped: Any = made(monkeypatch, ENVIRONMENT).get_task("spark")
    cluster = configured(ENVIRONMENT)
    assert cluster is not None
    told = {name: mapped.partial_kwargs[name] for name in ("application_id", "execution_role_arn", "name")}
    spark = EmrServerlessStartJobOperator(
        task_id="spark", job_driver=cluster.job_driver(PLACE), wait_for_completion=False, **told
    )
    client = botocore.session.get_session().create_client(
        "emr-serverless", region_name="eu-central-1", aws_access_key_id="k", aws_secret_access_key="s"
    )
    with Stubber(client) as stub:
        stub.add_response("get_application", {"application": _application()}, {"applicationId": told["application_id"]})
        expected = {
            "clientToken": ANY,
            "applicationId": told["application_id"],
            "executionRoleArn": told["execution_role_arn"],
            "jobDriver": cluster.job_driver(PLACE),
            "name": "lifecycle-prepare",
        }
        answer: dict[str, Any] = {
            "applicationId": told["application_id"],
            "jobRunId": "j",
            "arn": _application()["arn"],
        }
        answer |= {"ResponseMetadata": {"HTTPStatusCode": 200}}
        stub.add_response("start_job_run", answer, expected)
        monkeypatch.setattr(spark, "hook", SimpleNamespace(conn=client), raising=False)
        monkeypatch.setattr(spark, "persist_links", lambda context: None, raising=False)
        assert spark.execute({}) == "j"
        stub.assert_no_pending_responses()


def _application() -> dict[str, Any]:
    return {
        "applicationId": "00f1abcdefg23h09",
        "arn": "arn:aws:emr-serverless:eu-central-1:123456789012:/applications/00f1abcdefg23h09",
        "releaseLabel": "emr-7.9.0",
        "type": "Spark",
        "state": "STARTED",
        "createdAt": 0,
        "updatedAt": 0,
    }


def test_the_job_is_told_its_place_and_uses_its_role_s_credentials() -> None:
    cluster = Cluster("a", "r", "s3://code/job.py", "--archives s3://code/e.tar.gz")
    submit = cluster.job_driver(PLACE)["sparkSubmit"]
    assert submit["entryPointArguments"] == [PLACE]
    assert submit["sparkSubmitParameters"].count("AIRFLOW_CONN_LIFECYCLE_S3=aws://") == 2
    assert submit["sparkSubmitParameters"].endswith(cluster.parameters)


def test_half_a_cluster_is_refused_by_the_name_of_what_is_missing() -> None:
    with pytest.raises(ConfigurationError, match="LIFECYCLE_EMR_ROLE"):
        configured({"LIFECYCLE_EMR_APPLICATION": "a", "LIFECYCLE_EMR_ENTRY_POINT": "s3://code/job.py"})
