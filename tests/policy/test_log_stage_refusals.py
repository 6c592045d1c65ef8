"""What stages of many-record objects must not be: refused with file, line, field and remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from dispositions.test_log_stages import write_configuration
from lifecycle.catalog.load import read_catalog
from lifecycle.config import load_configuration
from lifecycle.errors import ConfigurationError, Problem

CONTENT = {"name": "content", "category": "prompts_and_outputs"}
CASES: dict[str, tuple[list[dict[str, Any]], str, str, str]] = {
    "a clock is emptied": (
        [CONTENT | {"clear": ["received_at"]}],
        "stages[0].clear",
        "received_at would be emptied, but the record is found and judged by it",
        "Remove it from 'clear'",
    ),
    "a part of what names a record is emptied": (
        [CONTENT | {"clear": ["message_id.value"]}],
        "stages[0].clear",
        "message_id.value would be emptied",
        "Remove it",
    ),
    "a field twice": (
        [CONTENT | {"clear": ["prompt", "prompt"]}],
        "stages[0].clear",
        "prompt is already emptied as prompt by stage 'content'",
        "one stage, once",
    ),
    "a field in another": (
        [CONTENT | {"clear": ["request"]}, {**CONTENT, "name": "more", "clear": ["request.messages"]}],
        "stages[1].clear",
        "request.messages is already emptied as request by stage 'content'",
        "one stage, once",
    ),
    "a path with an empty part": (
        [CONTENT | {"clear": ["request..messages"]}],
        "stages[0].clear[0]",
        "'request..messages' is not the name of a field",
        "request.messages",
    ),
    "a value instead of null": (
        [CONTENT | {"clear": {"prompt": ""}}],
        "stages[0].clear",
        "must be a list, not a mapping",
        "[prompt, request.messages]",
    ),
    "one name for two stages": (
        [CONTENT | {"clear": ["a"]}, CONTENT | {"clear": ["b"]}],
        "stages[1].name",
        "stage 'content' is listed twice",
        "its own name",
    ),
    "a stage that ends with its record": (
        [{"name": "content", "category": "usage_records", "clear": ["prompt"]}],
        "stages[0].category",
        "this stage would end with them",
        "another category",
    ),
    "a category that is no content": (
        [{"name": "content", "category": "account_data", "clear": ["prompt"]}],
        "stages[0].category",
        "a stage cannot hold account_data",
        "prompts_and_outputs",
    ),
    "what only tables have": (
        [CONTENT | {"clear": ["prompt"], "copies": []}],
        "stages[0].copies",
        "is not a known key",
        "known keys are: name, category, clear",
    ),
}


@pytest.mark.parametrize(("stages", "field", "says", "remedy"), CASES.values(), ids=CASES.keys())
def test_a_wrong_stage_is_refused(
    stages: list[dict[str, Any]], field: str, says: str, remedy: str, tmp_path: Path
) -> None:
    _, file = write_configuration(tmp_path, lambda logs: logs.update(stages=stages))
    (problem,) = read_catalog(file).problems
    assert (problem.file, problem.field) == (str(file), f"datasets[5].{field}")
    assert problem.line
    assert says in problem.message
    assert remedy in problem.remedy


def problem_of(folder: Path, period: str) -> Problem:
    policy, file = write_configuration(folder)
    told = yaml.safe_load(policy.read_text())
    told["rules"][-1]["period"] = period
    policy.write_text(yaml.safe_dump(told))
    with pytest.raises(ConfigurationError) as refused:
        load_configuration(policy, file)
    (problem,) = refused.value.problems
    return problem


def test_a_stage_that_is_as_long_as_its_record_is_refused(tmp_path: Path) -> None:
    """The records are given 90 days, and the content of consumers has them too."""
    problem = problem_of(tmp_path, "P90D")
    assert problem.field == "datasets[5].stages[0].category"
    assert "rule consumer_default keeps the content of tier consumer for P90D" in problem.message
    assert "the category with the shorter period" in problem.remedy


def test_a_stage_of_which_no_rule_speaks_is_refused(tmp_path: Path) -> None:
    policy, file = write_configuration(tmp_path)
    told = yaml.safe_load(policy.read_text())
    told["rules"] = [rule for rule in told["rules"] if rule["id"] != "usage"]
    policy.write_text(yaml.safe_dump(told))
    with pytest.raises(ConfigurationError, match="no rule of trigger 'default' for 'usage_records'"):
        load_configuration(policy, file)


def test_a_stage_is_never_left_to_a_cluster(tmp_path: Path) -> None:
    """What a cluster prepares is records that go whole; the run itself empties fields."""
    staging = {"bucket": "staging", "prefix": "rests/"}
    _, file = write_configuration(tmp_path, lambda logs: logs.update(prepared=staging))
    records, content = read_catalog(file).require().log_records
    assert (records.id, records.clear, records.prepared is not None) == ("request_logs", (), True)
    assert (content.id, content.clear, content.prepared) == (
        "request_logs.content",
        ("prompt", "request.messages"),
        None,
    )
