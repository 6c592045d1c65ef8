"""What stages, children and copies of an ordinary table must not be: refused with file, field and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from lifecycle.catalog.load import read_catalog
from lifecycle.shipped import SHIPPED_DATASETS, shipped

_AT = "    clock: scored_at\n"
_TWO = "    key: [score_id, scored_at]\n"
CASES = {
    "a column that decides is emptied": (
        "stages: [{name: content, category: usage_records, clear: [message_id]}]",
        ".stages[0].clear",
        "message_id would be emptied, but the row is found and judged by it",
        "Remove it from 'clear'",
    ),
    "a part of the key is emptied": (
        "stages: [{name: content, category: usage_records, clear: [score_id]}]",
        ".stages[0].clear",
        "score_id would be emptied",
        "Remove it from 'clear'",
    ),
    "one column in two stages": (
        "stages: [{name: one, category: usage_records, clear: [a]}, {name: two, category: usage_records, clear: [a]}]",
        ".stages[1].clear",
        "a is already emptied by stage 'one'",
        "one stage",
    ),
    "one name for two stages": (
        "stages: [{name: one, category: usage_records, clear: [a]}, {name: one, category: usage_records, clear: [b]}]",
        ".stages[1].name",
        "stage 'one' is listed twice",
        "its own name",
    ),
    "a stage that ends with its row": (
        "stages: [{name: content, category: safety_scores, clear: [a]}]",
        ".stages[0].category",
        "this stage would end with them",
        "another category",
    ),
    "a stage of prompts whose tier nobody says": (
        "stages: [{name: content, category: prompts_and_outputs, clear: [a]}]",
        ".tier_is",
        "nothing says of which tier these rows are",
        "tier_is: business",
    ),
    "a column cleared to content": (
        "stages: [{name: content, category: usage_records, clear: {a: 'removed by us'}}]",
        ".stages[0].clear",
        "holds null or one of the texts",
        "",
    ),
    "a child with a rule of its own": (
        "children: [{table: app.feedback, key: message_id}]",
        ".children[0].table",
        "app.feedback is dataset 'feedback', which has a rule of its own",
        "Remove it",
    ),
    "a grandchild that does not say what it refers to": (
        "children: [{table: app.a, key: score_id, children: [{table: app.b, key: a_id}]}]",
        ".children[0].children[0]",
        "app.b is a child of a child",
        "parent_key",
    ),
    "a copy in the table itself": (
        "copies: [{table: app.safety_scores, key: score_id, column: note}]",
        ".copies[0].table",
        "this is the table itself",
        "'clear'",
    ),
}
OF_SEVERAL_COLUMNS = {
    "a child without parent_key": (
        "children: [{table: app.a, key: score_id}]",
        ".children[0]",
        "the key of safety_scores is 2 columns, and nothing says to which of its columns app.a refers",
        "parent_key",
    ),
    "a copy": (
        "copies: [{table: app.a, key: score_id, column: note}]",
        ".copies",
        "a copy is found by one",
        "a key of one column",
    ),
    "a part of the key is emptied": (
        "stages: [{name: content, category: usage_records, clear: [score_id]}]",
        ".stages[0].clear",
        "score_id would be emptied",
        "Remove it from 'clear'",
    ),
}


def refused(folder: Path, line: str, *edits: tuple[str, str]) -> tuple[str, str, str]:
    """The one problem of the shipped file with a line more in its scores: field, message and remedy."""
    text = shipped(SHIPPED_DATASETS).read_text(encoding="utf-8")
    for old, new in (*edits, (_AT, f"{_AT}    {line}\n")):
        assert text.count(old) == 1
        text = text.replace(old, new)
    file = folder / "datasets.yaml"
    file.write_text(text, encoding="utf-8")
    (problem,) = read_catalog(file).problems
    assert problem.file == str(file)
    return problem.field, problem.message, problem.remedy


@pytest.mark.parametrize(("line", "field", "says", "remedy"), CASES.values(), ids=CASES.keys())
def test_a_wrong_stage_is_refused(line: str, field: str, says: str, remedy: str, tmp_path: Path) -> None:
    place, message, advice = refused(tmp_path, line)
    assert place.startswith(f"datasets[1]{field}")
    assert says in message
    assert remedy in advice


@pytest.mark.parametrize(
    ("line", "field", "says", "remedy"), OF_SEVERAL_COLUMNS.values(), ids=OF_SEVERAL_COLUMNS.keys()
)
def test_what_a_key_of_several_columns_does_not_allow(
    line: str, field: str, says: str, remedy: str, tmp_path: Path
) -> None:
    place, message, advice = refused(tmp_path, line, ("    key: score_id\n", _TWO))
    assert place == f"datasets[1]{field}"
    assert says in message
    assert remedy in advice
