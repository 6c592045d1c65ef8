"""Which names of columns speak of a person, or of what somebody wrote. Pure.

A strong name is enough to suspect a table. A weak one ("name", "payload") is also what lookup tables are made of, so it
counts in large tables only.
"""

from __future__ import annotations

import re
from enum import StrEnum

# PostgreSQL's categories of types. Truth values, times, enums and ranges say nothing about a person by their name.
_TEXT, _ANY, _NUMBER, _ADDRESS, _DATE, _ARRAY, _SHAPE = "S", "U", "N", "I", "D", "A", "G"
_WORDS = frozenset({_TEXT, _ANY, _ARRAY, "C", "X"})
_UUID = "uuid"


class Meaning(StrEnum):
    PERSON = "personal data"
    CONTENT = "content"


def _listed(*lines: str) -> frozenset[str]:
    return frozenset(word for line in lines for word in line.split())


def _phrases(*lines: str) -> tuple[tuple[str, ...], ...]:
    """Names as they read between underscores or humps; a longer name contains them as whole words."""
    return tuple(tuple(word.split("_")) for word in sorted(_listed(*lines)))


_PERSONS = _listed(
    "user account customer member person people contact subscriber visitor patient employee owner author client",
    "recipient sender profile individual guest participant",
)
_ID_SUFFIXES = _listed("id ids uuid guid uid ref key no nr number hash")
_PERSONAL = _phrases(
    "email e_mail phone telephone mobile_number mobile_phone msisdn fax first_name last_name full_name given_name",
    "family_name middle_name display_name nick_name nickname surname forename firstname lastname fullname user_name",
    "username login real_name customer_name contact_name person_name cardholder street address addr postcode",
    "postal_code zip_code zipcode birth birthday birthdate dob ssn passport national_id tax_id iban card_number",
    "latitude longitude user_agent useragent device_id advertising_id idfa gaid cookie session_id fingerprint",
    "password passwd gender religion ethnicity nationality avatar",
)
_NETWORK = _phrases("ip ipaddr ipaddress ipv4 ipv6 mac_address")
_BIRTH = _phrases("birth birthday birthdate dob")
_PLACE = _phrases("latitude longitude")
_CONTENT = _listed("body prompt prompts completion completions transcript utterance conversation chat dialogue")
_WEAK_PERSONAL = _listed("name location city title created_by updated_by")
_WEAK_CONTENT = _listed(
    "content contents text message messages payload comment comments note notes query input output request response",
    "raw data document excerpt snippet",
)
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def words_of(name: str) -> tuple[str, ...]:
    """A name in lower-case words: ``userId`` and ``user_id`` are the same."""
    return tuple(word for word in re.split(r"[^a-z0-9]+", _HUMP.sub("_", name).lower()) if word)


def strong(name: str, category: str, type_name: str) -> Meaning | None:
    """What a name means by itself, for a column of that type; None when nothing."""
    words = words_of(name)
    if category == _ADDRESS or (category == _ANY and type_name.startswith("macaddr")):
        return Meaning.PERSON
    if _has(words, _PERSONAL) and (category in _WORDS | {_NUMBER} or _typed_for(words, category)):
        return Meaning.PERSON
    if _has(words, _NETWORK) and category in _WORDS:
        return Meaning.PERSON
    if _names_a_person(words) and category in _WORDS | {_NUMBER}:
        return Meaning.PERSON
    if words and words[-1] in _CONTENT and category in _WORDS and type_name != _UUID:
        return Meaning.CONTENT
    return None


def weak(name: str, category: str, type_name: str) -> Meaning | None:
    """What a name may mean in a table that is too large to be a lookup table."""
    if category not in _WORDS or type_name == _UUID:
        return None
    words = words_of(name)
    joined = "_".join(words)
    if words and (words[-1] in _WEAK_PERSONAL or joined in _WEAK_PERSONAL):
        return Meaning.PERSON
    if words and words[-1] in _WEAK_CONTENT:
        return Meaning.CONTENT
    return None


def identifying(name: str) -> bool:
    """Whether a column is named like an identifier: ``message_id``, ``externalRef``, ``push_token``."""
    words = words_of(name)
    return len(words) > 1 and words[-1] in _ID_SUFFIXES | {"token", "identifier"}


def refers(name: str, identifier: str) -> bool:
    """Whether a column's name is that of an identifier, or of the thing it identifies with a prefix or another suffix:
    ``message_id``, ``source_message_id``, ``messageUuid`` and ``message_ref`` for ``message_id``."""
    have, want = words_of(name), words_of(identifier)
    if not have or not want:
        return False
    if have[-len(want) :] == want:
        return True
    stem = want[:-1]
    if not stem or want[-1] not in _ID_SUFFIXES or have[-1] not in _ID_SUFFIXES:
        return False
    return have[-len(stem) - 1 : -1] == stem


def _has(words: tuple[str, ...], phrases: tuple[tuple[str, ...], ...]) -> bool:
    return any(words[at : at + len(phrase)] == phrase for phrase in phrases for at in range(len(words)))


def _typed_for(words: tuple[str, ...], category: str) -> bool:
    """Dates of birth are dates, and places are points."""
    if category == _DATE:
        return _has(words, _BIRTH)
    return category == _SHAPE and _has(words, _PLACE)


def _names_a_person(words: tuple[str, ...]) -> bool:
    return len(words) > 1 and words[-1] in _ID_SUFFIXES and words[-2] in _PERSONS
