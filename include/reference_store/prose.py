"""Names and sentences, and identifiers that come from the seed."""

from __future__ import annotations

from random import Random

_FIRST = ("ada", "ben", "chen", "dora", "emil", "fatima", "goran", "hana", "ivo", "jana", "kofi", "lena", "nils")
_LAST = ("arndt", "baker", "castro", "diaz", "endo", "fischer", "garcia", "huber", "ito", "jensen", "kaya", "lopez")
_OPENINGS = ("Please", "Can you", "I would like you to", "Could you quickly", "Help me to", "As a next step,")
_VERBS = ("summarise", "translate", "review", "rewrite", "explain", "draft", "compare", "check", "outline", "shorten")
_THINGS = (
    "the quarterly report", "this function", "a letter to my landlord", "the meeting notes", "my travel plan",
    "the test results", "a recipe for twelve people", "the release notes", "this contract clause", "the data model",
)  # fmt: skip
_ENDINGS = (
    "in plain words.", "for a colleague who is new.", "and keep it under a page.", "before tomorrow morning.",
    "without changing its meaning.", "and list what is missing.", "with two examples.", "in a friendly tone.",
)  # fmt: skip
TOOLS = ("web_search", "code_runner", "file_reader", "calculator", "calendar")
MODELS = ("m-1", "m-1-mini", "m-2", "m-2-mini")
CLASSIFIERS = ("abuse-1", "self-harm-1", "fraud-2")
PATHS = ("/v1/messages", "/v1/messages/stream", "/v1/complete")
COMMENTS = ("Helpful answer", "It missed the point", "Wrong in the second half", "Just what I needed", "Too long")


def identifier(rng: Random) -> str:
    """A version 4 UUID as text, from the seeded generator."""
    digits = f"{rng.getrandbits(128):032x}"
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


class Prose:
    """A pool of sentences made once, from which bodies are put together."""

    def __init__(self, rng: Random, size: int = 400) -> None:
        self._pool = [
            " ".join(rng.choice(part) for part in (_OPENINGS, _VERBS, _THINGS, _ENDINGS)) for _ in range(size)
        ]

    def body(self, rng: Random, role: str) -> str:
        """A few sentences; outputs are longer than prompts."""
        count = 1 + int(rng.random() * (3 if role == "prompt" else 8))
        start = int(rng.random() * (len(self._pool) - count))
        return " ".join(self._pool[start : start + count])


def person(rng: Random, number: int) -> tuple[str, str]:
    """An e-mail address, unique by number, and a display name."""
    first, last = rng.choice(_FIRST), rng.choice(_LAST)
    return f"{first}.{last}.{number}@example.com", f"{first.title()} {last.title()}"
