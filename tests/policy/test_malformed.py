"""Every way to get a configuration file wrong gives one clear problem: file, line, field, message, remedy."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lifecycle.catalog.load import load_catalog, read_catalog
from lifecycle.errors import ConfigurationError
from lifecycle.policy.load import load_policy, read_policy
from lifecycle.shipped import SHIPPED_DATASETS, SHIPPED_POLICY, shipped
from lifecycle.yaml_source import MAX_PROBLEMS
from policy.malformed import Malformed
from policy.malformed_datasets import DATASETS
from policy.malformed_fields import FIELDS
from policy.malformed_more import MORE_DATASETS, MORE_POLICIES
from policy.malformed_rules import RULES

POLICIES = (*FIELDS, *RULES, *MORE_POLICIES)
DOCS = Path(__file__).resolve().parents[2] / "docs"
BINDINGS = (*DATASETS, *MORE_DATASETS)


def check(case: Malformed, shipped_name: str, load: Callable[[Path], object], folder: Path) -> None:
    text, line = case.apply(shipped(shipped_name).read_text(encoding="utf-8"))
    file = folder / "edited.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        load(file)
    (problem,) = caught.value.problems
    assert (problem.file, problem.line, problem.field) == (str(file), line, case.field)
    assert case.says in problem.message
    assert case.remedy in problem.remedy
    assert str(problem).startswith(f"{file}:{line}: {case.field}: ")


def test_the_documentation_counts_them() -> None:
    count = len(POLICIES) + len(BINDINGS)
    assert count >= 100
    assert f"| {count} malformed policies and dataset files" in (DOCS / "auditors.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("case", POLICIES, ids=lambda case: case.name)
def test_a_malformed_policy_gives_one_clear_problem(case: Malformed, tmp_path: Path) -> None:
    check(case, SHIPPED_POLICY, load_policy, tmp_path)


@pytest.mark.parametrize("case", BINDINGS, ids=lambda case: case.name)
def test_a_malformed_dataset_file_gives_one_clear_problem(case: Malformed, tmp_path: Path) -> None:
    check(case, SHIPPED_DATASETS, load_catalog, tmp_path)


@pytest.mark.parametrize(
    ("content", "line", "says"),
    [
        (b"", 1, "is empty"),
        (b"# only a comment\n", 1, "is empty"),
        (b"\xff\xfe", 1, "not UTF-8"),
        (b"version: 1\nname: \xe9\n", 2, "not UTF-8"),
        (b"version: 1\nname: \x00\n", 1, "control character"),
        (b"just text", 1, "must be a mapping"),
        (b"- version: 1\n", 1, "must be a mapping"),
        (b"#" * 1_000_001, 0, "larger than 1,000,000 bytes"),
    ],
)
def test_a_file_that_is_no_configuration(content: bytes, line: int, says: str, tmp_path: Path) -> None:
    file = tmp_path / "odd.yaml"
    file.write_bytes(content)
    for read in (read_policy, read_catalog):
        (problem,) = read(file).problems
        assert (problem.file, problem.line) == (str(file), line)
        assert says in problem.message
        assert problem.remedy


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    (problem,) = read_policy(tmp_path / "missing.yaml").problems
    assert (problem.line, problem.field) == (0, "file")
    assert "No such file" in problem.message
    assert str(problem).startswith(f"{tmp_path / 'missing.yaml'}: file: cannot be read")


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    (problem,) = read_policy(tmp_path).problems
    assert "directory" in problem.message


def test_several_problems_are_told_at_once_in_order_of_lines(tmp_path: Path) -> None:
    text = shipped(SHIPPED_POLICY).read_text(encoding="utf-8")
    for case in [
        case for case in POLICIES if case.name in ("a misspelt key", "a bare number", "an unknown disposition")
    ]:
        text, _ = case.apply(text)
    file = tmp_path / "edited.yaml"
    file.write_text(text, encoding="utf-8")
    problems = read_policy(file).problems
    assert [problem.field for problem in problems] == ["rules[2].disposition", "rules[4].knid", "rules[7].period"]
    assert [problem.line for problem in problems] == sorted(problem.line for problem in problems)


def test_an_alias_bomb_is_refused_before_it_is_built(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 20)]
    file = tmp_path / "bomb.yaml"
    file.write_text("\n".join(lines), encoding="utf-8")
    started = time.process_time()
    *problems, last = read_policy(file).problems
    assert {"anchors are not allowed", "aliases are not allowed"} == {problem.message for problem in problems}
    assert (len(problems), last.message) == (MAX_PROBLEMS, "has more than 100 problems")
    assert time.process_time() - started < 2


@pytest.mark.parametrize(
    ("key", "field"), [("''", "''"), ('"a b"', "'a b'"), ('"a\\nb"', "'a\\nb'"), ("x" * 90, f"'{'x' * 40}...'")]
)
def test_an_odd_key_is_named_so_that_it_can_be_found(key: str, field: str, tmp_path: Path) -> None:
    text = shipped(SHIPPED_POLICY).read_text(encoding="utf-8")
    file = tmp_path / "edited.yaml"
    file.write_text(text.replace("name: retention\n", f"name: retention\n{key}: 1\n{key}: 2\n"), encoding="utf-8")
    assert {problem.field for problem in read_policy(file).problems} == {field}


def test_very_many_contradictions_are_cut_too(tmp_path: Path) -> None:
    data = yaml.safe_load(shipped(SHIPPED_DATASETS).read_text(encoding="utf-8"))
    entry = {"table": "app.plans", "reason": "a price list of ours", "until": "2027-06-30"}
    file = tmp_path / "edited.yaml"
    file.write_text(json.dumps(data | {"exclusions": [entry] * 2_000}), encoding="utf-8")
    problems = read_catalog(file).problems
    assert len(problems) == MAX_PROBLEMS + 1
    assert {problem.message for problem in problems} == {
        "the same thing is already excluded",
        "has more than 100 problems",
    }


@pytest.mark.parametrize("read", [read_policy, read_catalog])
@pytest.mark.parametrize(
    "content",
    [
        b"a: 1\n" * 190_000,
        b"".join(b"%d: 1\n" % n for n in range(90_000)),
        b"- 1\n" * 240_000,
        b"rules:\n" + b"  - {x: 1}\n" * 80_000,
        b"datasets:\n" + b"  - {type: table}\n" * 50_000,
        b"".join(b"a%d: &a%d 1\n" % (n, n) for n in range(50_000)),
        b"a: &a " + b"x" * 1000 + b"\nb: [" + b"*a," * 200_000 + b"]",
        b"[" * 999_000,
        b"{" * 999_000,
        b"- " * 400_000,
        b"a" * 999_000,
        b"a: " + b"x" * 999_000,
        b"rules: [" + b"{x: 1}," * 4_000 + b"]",
    ],
    ids=lambda content: bytes(content[:8]).decode().replace("\n", " "),
)
def test_a_huge_file_is_refused_at_once(content: bytes, read: Callable[[Path], Any], tmp_path: Path) -> None:
    """Whatever a megabyte holds: refused within a second or two, with no more problems than anybody reads."""
    file = tmp_path / "huge.yaml"
    file.write_bytes(content)
    started = time.process_time()
    problems = read(file).problems
    assert time.process_time() - started < 1
    assert 1 <= len(problems) <= MAX_PROBLEMS + 1
    assert all(problem.line > 0 and problem.remedy and len(str(problem)) < 600 for problem in problems)


@pytest.mark.parametrize("kind", ["partitioned_table", "accounts"])
def test_exactly_one_message_table_and_one_account_table(kind: str, tmp_path: Path) -> None:
    data = yaml.safe_load(shipped(SHIPPED_DATASETS).read_text(encoding="utf-8"))
    one = next(item for item in data["datasets"] if item["type"] == kind)
    file = tmp_path / "edited.yaml"
    for items, expected in (
        ([item for item in data["datasets"] if item is not one], f"no dataset is of type {kind}"),
        ([*data["datasets"], {**one, "id": "second", "table": "app.second"}], f"2 datasets are of type {kind}"),
    ):
        file.write_text(json.dumps(data | {"datasets": items}), encoding="utf-8")
        (problem,) = read_catalog(file).problems
        assert expected in problem.message


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place in nested plain data, the root left out."""
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*path, key)
        yield from places(item, (*path, key))


ODD: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=12),
    st.sampled_from(["P1D", "app.messages", "messages", "{record}", "table", "logs", "keep", "default"]),
    st.just([]),
    st.just({}),
    st.lists(st.text(max_size=3), max_size=2),
    st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)
@given(draw=st.data(), odd=ODD, which=st.sampled_from([SHIPPED_POLICY, SHIPPED_DATASETS]), remove=st.booleans())
def test_whatever_stands_anywhere_is_taken_or_refused_with_a_remedy(
    draw: st.DataObject, odd: Any, which: str, remove: bool, tmp_path: Path
) -> None:
    """No value at any place makes the reader itself fail."""
    data = yaml.safe_load(shipped(which).read_text(encoding="utf-8"))
    path = draw.draw(st.sampled_from(list(places(data))))
    parent = data
    for part in path[:-1]:
        parent = parent[part]
    if remove:
        del parent[path[-1]]
    else:
        parent[path[-1]] = odd
    file = tmp_path / "edited.yaml"
    file.write_text(json.dumps(data, indent=1), encoding="utf-8")
    loaded = read_policy(file) if which == SHIPPED_POLICY else read_catalog(file)
    assert (loaded.value is None) == bool(loaded.problems)
    lines = file.read_text(encoding="utf-8").count("\n") + 1
    for problem in loaded.problems:
        assert 1 <= problem.line <= lines
        assert problem.field and problem.message and problem.remedy
        assert len(str(problem)) < 600
