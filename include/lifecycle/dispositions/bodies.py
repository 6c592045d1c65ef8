"""What may be known of a message body in research: its length, and nothing else."""

from __future__ import annotations

import json


def body_chars(body: bytes) -> int:
    """The length of a message object in characters: of its JSON ``body``, else of its decoded text."""
    text = body.decode("utf-8", errors="replace")
    try:
        parsed = json.loads(text)
    except ValueError:
        return len(text)
    if isinstance(parsed, dict) and isinstance(parsed.get("body"), str):
        return len(parsed["body"])
    return len(text)
