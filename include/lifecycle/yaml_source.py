"""YAML with line numbers, without the parts of YAML that surprise: no anchors, tags, merges or duplicate keys.

`read` collects every problem instead of stopping at the first.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lifecycle.errors import Problem

Path_ = tuple[str | int, ...]
MAX_BYTES = 1_000_000
MAX_DEPTH = 20
# A file of the reference store has about 300 values; what is longer costs seconds and is no rule.
MAX_VALUES = 20_000
# Whoever has made this many mistakes mends the first ones first.
MAX_PROBLEMS = 100
_MERGE_TAG = "tag:yaml.org,2002:merge"
_TEXT_TAG = "tag:yaml.org,2002:str"
# YAML 1.1 also reads 010 as eight and 1:30 as ninety.
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"[-+]?[0-9]+\.[0-9]*([eE][-+]?[0-9]+)?")
# libyaml where the wheel has it: the pure reader takes many seconds for a megabyte.
_Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Source:
    """A file as read: its plain values, the line of each, the hash of its bytes, and what is wrong with it so far."""

    file: str
    data: Any
    lines: Mapping[Path_, int]
    sha256: str
    problems: tuple[Problem, ...] = ()

    def line(self, path: Path_) -> int:
        """The line of a value, or of the closest thing around it."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.lines:
                return self.lines[path[:length]]
        return 1


def read(path: Path) -> Source:
    """Read a YAML file. Problems are in the result; ``data`` is None where the file could not be read at all."""
    file = str(path)
    try:
        with path.open("rb") as opened:
            content = opened.read(MAX_BYTES + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        problem = Problem(file, 0, "file", f"cannot be read: {reason}", "Name a file that exists and can be read")
        return Source(file, None, {}, "", (problem,))
    sha256 = hashlib.sha256(content).hexdigest()
    if len(content) > MAX_BYTES:
        problem = Problem(file, 0, "file", f"is larger than {MAX_BYTES:,} bytes", "Split it, or remove what is no rule")
        return Source(file, None, {}, sha256, (problem,))
    return parse(file, content, sha256)


def parse(file: str, content: bytes, sha256: str) -> Source:
    """As `read`, for content already in memory."""
    reader = _Reader(file)
    try:
        text = content.decode("utf-8-sig")
        reader.check_events(text)
        if not reader.problems:
            node = yaml.compose(text, Loader=_Loader)
            data = None if node is None else reader.plain(node, ())
            if data is None:
                reader.report(1, "file", "is empty", "Start from the shipped file")
            return Source(file, data, reader.lines, sha256, tuple(reader.problems))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        reader.report(line, "file", "is not UTF-8 text", "Save the file with UTF-8 encoding")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        reader.report(
            line,
            "file",
            f"is not valid YAML: {error.problem}",
            "Check indentation, colons, quotes and brackets here and just above",
        )
    except yaml.YAMLError:
        reader.report(1, "file", "is not valid YAML: it holds a control character", "Remove it")
    return Source(file, None, {}, sha256, tuple(reader.problems))


@dataclass
class _Reader:
    file: str
    lines: dict[Path_, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def report(self, line: int, where: str, message: str, remedy: str) -> None:
        """Note a problem; those beyond the first hundred are only said to be there."""
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(self.file, line, where, message, remedy))
        elif len(self.problems) == MAX_PROBLEMS:
            self.problems.append(more_problems(self.file, line))

    def check_events(self, text: str) -> None:
        """Refuse anchors, aliases, tags, several documents and deep nesting before anything is built from them."""
        depth = documents = values = 0
        for event in yaml.parse(text, Loader=_Loader):
            line = event.start_mark.line + 1 if event.start_mark else 1
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents == 2:
                    self.report(line, "file", "holds more than one document", "Remove the line '---' and what follows")
            elif isinstance(event, yaml.AliasEvent):
                self.report(line, f"*{event.anchor}", "aliases are not allowed", "Write the value out")
            elif isinstance(event, yaml.NodeEvent):
                values += 1
                self._check_node(event, line)
            if values > MAX_VALUES:
                self.report(line, "file", f"holds more than {MAX_VALUES:,} values", "Remove what is no rule")
                return
            if len(self.problems) > MAX_PROBLEMS:
                return
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
                if depth > MAX_DEPTH:
                    self.report(line, "file", f"nests deeper than {MAX_DEPTH} levels", "Remove the extra levels")
                    return
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1

    def _check_node(self, event: yaml.NodeEvent, line: int) -> None:
        if event.anchor is not None:
            self.report(line, f"&{event.anchor}", "anchors are not allowed", "Write the value out where it is needed")
        tag = getattr(event, "tag", None)
        if tag is not None:
            shown = tag.removeprefix("tag:yaml.org,2002:")
            self.report(line, f"!{shown.lstrip('!')}", "tags are not allowed", "Write the plain value")

    def plain(self, node: yaml.Node, path: Path_) -> Any:
        """Plain Python for a node; remembers the line of everything below it."""
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return {key: self.plain(value, (*path, key)) for key, value in self._entries(node, path)}
        if isinstance(node, yaml.SequenceNode):
            return [self.plain(item, (*path, index)) for index, item in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)
        return self._scalar(node, path)

    def _entries(self, node: yaml.MappingNode, path: Path_) -> Iterator[tuple[str, yaml.Node]]:
        for key_node, value in node.value:
            line = key_node.start_mark.line + 1
            where = show(path)
            if key_node.tag == _MERGE_TAG:
                self.report(line, f"{where}.<<".lstrip("."), "merge keys are not allowed", "Write the keys out")
            elif not isinstance(key_node, yaml.ScalarNode) or key_node.tag != _TEXT_TAG:
                shown = repr(key_node.value) if isinstance(key_node, yaml.ScalarNode) else "a list or mapping"
                self.report(
                    line, where or "file", f"the key {shown} is not text", "Put the key in quotes, or rename it"
                )
            elif (*path, key_node.value) in self.lines:
                first = self.lines[(*path, key_node.value)]
                name = show((*path, key_node.value))
                self.report(line, name, f"the key is already there at line {first}", "Keep one of the two")
            else:
                self.lines[(*path, key_node.value)] = line
                yield key_node.value, value

    def _scalar(self, node: yaml.ScalarNode, path: Path_) -> Any:
        """Numbers, booleans and null in their plain spelling; everything else, dates too, stays text."""
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        text = str(node.value)
        line = node.start_mark.line + 1
        match kind:
            case "null":
                return None
            case "bool":
                if text not in ("true", "false"):
                    self.report(
                        line, show(path), f"{text!r} is read as a truth value", "Write true, false, or text in quotes"
                    )
                return text == "true"
            case "int":
                if _INTEGER.fullmatch(text) is None:
                    self.report(
                        line,
                        show(path),
                        f"{text!r} is read as a number in a notation of its own",
                        "Write it in plain digits, or as text in quotes",
                    )
                    return 0
                return int(text)
            case "float":
                return float(text.replace("_", "")) if _FLOAT.fullmatch(text) else text
            case _:
                return text


def more_problems(file: str, line: int) -> Problem:
    """What stands for every problem beyond the first hundred."""
    return Problem(file, line, "file", f"has more than {MAX_PROBLEMS} problems", "Mend the first ones and check again")


def show(path: Path_) -> str:
    """A path as people write it: ``rules[3].period``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")
