"""Whatever is dropped, renamed, retyped or doubled in the shipped files: a sound configuration, or a clear refusal."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lifecycle.config import load_configuration
from lifecycle.errors import ConfigurationError
from lifecycle.shipped import SHIPPED_DATASETS, SHIPPED_POLICY, shipped

NAMES = (SHIPPED_POLICY, SHIPPED_DATASETS)
TEXTS = {name: shipped(name).read_text(encoding="utf-8") for name in NAMES}
_numbers = itertools.count()
# What stands elsewhere in the files is likelier to be taken for sound than noise is.
WORDS = sorted({word.strip("[]{},:\"'") for text in TEXTS.values() for word in text.split()} - {"", "#"})
SCALARS = st.one_of(
    st.sampled_from(WORDS),
    st.sampled_from(
        ["", "~", "true", "yes", "0", "-1", "1e9", ".nan", "P0D", "-P1D", "P1D", "2027-01-01", "a.b", "../"]
    ),
    st.text(max_size=12),
)
PLACES = st.integers(0, 10_000)


def _scalar(text: str) -> yaml.ScalarNode:
    return yaml.ScalarNode("tag:yaml.org,2002:str", text)


def _replacement(draw: st.DrawFn) -> yaml.Node:
    match draw(st.sampled_from(["scalar", "scalar", "list", "mapping", "empty list", "empty mapping"])):
        case "list":
            return yaml.SequenceNode("tag:yaml.org,2002:seq", [_scalar(draw(SCALARS))])
        case "mapping":
            return yaml.MappingNode("tag:yaml.org,2002:map", [(_scalar(draw(SCALARS)), _scalar(draw(SCALARS)))])
        case "empty list":
            return yaml.SequenceNode("tag:yaml.org,2002:seq", [])
        case "empty mapping":
            return yaml.MappingNode("tag:yaml.org,2002:map", [])
        case _:
            return _scalar(draw(SCALARS))


def _containers(node: yaml.Node) -> Iterator[yaml.CollectionNode]:
    if isinstance(node, yaml.CollectionNode) and node.value:
        yield node
        for item in node.value:
            yield from _containers(item[1] if isinstance(item, tuple) else item)


def _pick(draw: st.DrawFn, items: list[yaml.CollectionNode]) -> yaml.CollectionNode:
    return items[draw(PLACES) % len(items)]


def _mutate_node(draw: st.DrawFn, root: yaml.Node) -> None:
    """One mutation of the tree; keys may be doubled, which plain data could not be."""
    containers = list(_containers(root))
    if not containers:
        return
    node = _pick(draw, containers)
    at = draw(PLACES) % len(node.value)
    item = node.value[at]
    match draw(st.sampled_from(["drop", "rename", "retype", "retype", "double", "swap"])):
        case "drop":
            del node.value[at]
        case "rename" if isinstance(item, tuple):
            node.value[at] = (_scalar(draw(SCALARS)), item[1])
        case "double":
            node.value.insert(draw(PLACES) % (len(node.value) + 1), item)
        case "swap":
            other = _pick(draw, containers)
            place = draw(PLACES) % len(other.value)
            mine, theirs = node.value[at], other.value[place]
            if isinstance(mine, tuple) and isinstance(theirs, tuple):
                node.value[at], other.value[place] = (mine[0], theirs[1]), (theirs[0], mine[1])
        case _:
            new = _replacement(draw)
            node.value[at] = (item[0], new) if isinstance(item, tuple) else new


@st.composite
def trees(draw: st.DrawFn, text: str) -> str:
    """The file with one to four mutations of its tree; a swap may put a value into itself, which has no text."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    assert root is not None
    for _ in range(draw(st.integers(1, 4))):
        _mutate_node(draw, root)
    try:
        return yaml.serialize(root, Dumper=yaml.SafeDumper, allow_unicode=True)
    except RecursionError:
        return text


@st.composite
def lines(draw: st.DrawFn, text: str) -> str:
    """The file with some of its lines dropped, doubled, moved in or out, or with a character too many."""
    found = text.splitlines()
    for _ in range(draw(st.integers(1, 3))):
        at = draw(PLACES) % len(found)
        match draw(st.sampled_from(["drop", "double", "indent", "outdent", "insert", "cut"])):
            case "drop":
                del found[at]
            case "double":
                found.insert(at, found[at])
            case "indent":
                found[at] = "  " + found[at]
            case "outdent":
                found[at] = found[at].removeprefix("  ")
            case "cut":
                found[at] = found[at][: draw(PLACES) % (len(found[at]) + 1)]
            case _:
                place = draw(PLACES) % (len(found[at]) + 1)
                odd = draw(st.sampled_from([*"\t{}[]:,&*!|>%@`\"'#-?", "\x00", "\x85", "\u2028", "é", "<<: "]))
                found[at] = found[at][:place] + odd + found[at][place:]
    return "\n".join(found) + "\n"


@pytest.mark.parametrize("name", NAMES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(draw=st.data())
def test_a_mutated_file_is_sound_or_clearly_refused(name: str, draw: st.DataObject, tmp_path: Path) -> None:
    text = draw.draw(st.one_of(trees(TEXTS[name]), lines(TEXTS[name])))
    file = tmp_path / f"{next(_numbers)}.yaml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    files = {"policy": None, "datasets": None} | {"policy" if name == SHIPPED_POLICY else "datasets": file}
    started = time.process_time()
    try:
        load_configuration(files["policy"], files["datasets"])
    except ConfigurationError as error:
        assert error.problems
        for problem in error.problems:
            assert problem.file in (str(file), str(shipped(SHIPPED_DATASETS)))
            assert problem.line > 0
            assert problem.field and problem.message and problem.remedy
            assert len(str(problem)) < 700
    assert time.process_time() - started < 1
