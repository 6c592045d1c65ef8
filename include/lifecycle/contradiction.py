"""What a cross-field check of a configuration file found; yaml_source.py turns it into file, line, field and remedy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pydantic_core import PydanticCustomError

ERROR_TYPE = "contradiction"


@dataclass(frozen=True)
class Contradiction:
    """``where`` is the path of keys and indexes from the root of the file to the value at fault."""

    where: tuple[str | int, ...]
    message: str
    remedy: str


def refuse(found: Iterable[Contradiction]) -> None:
    """Raise all of them as one error that pydantic understands; do nothing when there are none.

    Raises:
        PydanticCustomError: at least one contradiction was found.
    """
    listed = list(found)
    if listed:
        text = "; ".join(item.message for item in listed)
        raise PydanticCustomError(ERROR_TYPE, "{text}", {"text": text, "found": listed})
