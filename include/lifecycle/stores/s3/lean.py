"""Small objects read and written with a third of the client's processor time, where that is provably the same request.

The first request of a kind into a bucket goes the client's way and is learnt from: its address, what signs it, and the
headers that come from the client and not from what was asked for. Only if what we would have sent is, letter by letter,
what the client sends, are the next ones made by us. They are signed by the client's own signer, so that every source of
credentials still holds, and pass its "before-send" handlers: its pace, and permits (`permitted`). Whatever is answered
but a plain 200, and whatever is not answered, the client sends again itself: it tries again and names errors as ever.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from weakref import WeakKeyDictionary

from lifecycle.stores.s3.unasked import unasked
from lifecycle.stores.s3.wire import LARGEST_BODY, Reply, UnexpectedAnswerError, Wire

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_METHODS = {"GetObject": "GET", "PutObject": "PUT"}
# Requests that go the client's way after one that the server could not do: its pace and its tries are better then.
RESTING = 50
# Under this name a handler is called after those of "before-call.s3", which complete the request.
_EVENT = "before-call"
_HANDLER = "lifecycle-lean"
# What the client adds of its own accord and we may repeat; anything else is a reason not to.
_CONSTANT = frozenset({"user-agent", "x-amz-checksum-mode", "x-amzn-trace-id"})
# Of what a request was made of, this belongs to that one request.
_OF_ONE = frozenset({"s3_redirect", "input_params", "retries"})
# What may be asked for, and under which header. Values are text or, of the last, a truth value.
_HEADER_NAMES = {
    "CacheControl": "cache-control",
    "ContentDisposition": "content-disposition",
    "ContentEncoding": "content-encoding",
    "ContentLanguage": "content-language",
    "ContentType": "content-type",
    "ChecksumAlgorithm": "x-amz-sdk-checksum-algorithm",
    "ChecksumMode": "x-amz-checksum-mode",
    "IfMatch": "if-match",
    "IfNoneMatch": "if-none-match",
    "StorageClass": "x-amz-storage-class",
    "Tagging": "x-amz-tagging",
    "WebsiteRedirectLocation": "x-amz-website-redirect-location",
    "ServerSideEncryption": "x-amz-server-side-encryption",
    "SSEKMSKeyId": "x-amz-server-side-encryption-aws-kms-key-id",
    "BucketKeyEnabled": "x-amz-server-side-encryption-bucket-key-enabled",
}
_NO_HEADERS = frozenset({"Bucket", "Key", "Body", "VersionId", "Metadata"})
# How plain S3 signs; what else a signature needs is for the client to know.
_PLAIN_SIGNING = frozenset({"region", "signing_name", "disableDoubleEncoding"})
_learning: ContextVar[tuple[_Senders, str, Mapping[str, Any]] | None] = ContextVar("lean_learning", default=None)
_senders: WeakKeyDictionary[S3Client, _Senders] = WeakKeyDictionary()
_lock = threading.Lock()


def get_object(s3: S3Client, **request: Any) -> Any:
    """As the client's own method, errors included."""
    return _called(s3, "GetObject", s3.get_object, request)


def put_object(s3: S3Client, **request: Any) -> Any:
    """As the client's own method, errors included; ``Body`` is bytes, and sent without asking first."""

    def write(**request: Any) -> Any:
        with unasked(s3):
            return s3.put_object(**request)

    return _called(s3, "PutObject", write, request)


def answered(s3: S3Client) -> int:
    """How many requests of this client were made and answered without it."""
    with _lock:
        return _senders[s3].answered if s3 in _senders else 0


def _called(s3: S3Client, operation: str, method: Callable[..., Any], request: dict[str, Any]) -> Any:
    senders = _senders_of(s3)
    if senders is None:
        return method(**request)
    answer = senders.answer(operation, request)
    if answer is not None:
        return answer
    token = _learning.set((senders, operation, request))
    try:
        return method(**request)
    finally:
        _learning.reset(token)


def _senders_of(s3: S3Client) -> _Senders | None:
    """None for what is not a client itself, such as one with changed methods: those are meant to be called."""
    from botocore.client import BaseClient

    client: Any = s3
    if not isinstance(client, BaseClient):
        return None
    with _lock:
        if (senders := _senders.get(s3)) is None:
            # How the client checks certificates is told nowhere else; without that, nothing goes over TLS but its own.
            session = getattr(getattr(s3, "_endpoint", None), "http_session", None)
            wire = Wire(s3.meta.config, getattr(session, "_verify", False))
            senders = _senders[s3] = _Senders(s3.meta.events, s3.meta.config, wire)
            s3.meta.events.register_last(_EVENT, _learn, unique_id=_HANDLER)
        return senders


@dataclass(frozen=True)
class _Form:
    """What the client's requests of one kind into one bucket have in common. ``base``: the address without the key."""

    base: str
    headers: Mapping[str, str]
    context: Mapping[str, Any]
    model: Any
    signer: Any


@dataclass
class _Senders:
    """What is known of one client, and its connections."""

    events: Any
    config: Any
    wire: Wire
    answered: int = 0
    resting: int = 0
    forms: dict[tuple[str, ...], _Form] = field(default_factory=dict)
    _changing: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any] | None:
        """The answer in the client's own form, or None where the client has to send the request itself.

        What a handler of "before-send" raises ends the request, unsent, and is raised as it is.
        """
        form = self.forms.get(_kind(operation, request))
        headers, body = _headers(request), request.get("Body", b"")
        if form is None or headers is None or len(body) > LARGEST_BODY or not self._may():
            return None
        prepared = _signed(form, form.base + _target(request), {**form.headers, **headers}, body, operation)
        told = self.events.emit(f"before-send.s3.{operation}", request=prepared)
        if any(response is not None for _, response in told):
            return None
        try:
            reply = self.wire.exchange(prepared.method, prepared.url, prepared.body, prepared.headers)
            parsed = _parsed(form, reply)
        except UnexpectedAnswerError as unexpected:
            with self._changing:
                self.resting = RESTING if unexpected.trouble else self.resting
            return None
        with self._changing:
            self.answered += 1
        if (self.config.retries or {}).get("mode") == "adaptive":
            self._tell_pace(form, operation, (reply, parsed))
        return parsed

    def _may(self) -> bool:
        with self._changing:
            self.resting -= self.resting > 0
            return self.resting == 0

    def _tell_pace(self, form: _Form, operation: str, response: tuple[Reply, dict[str, Any]]) -> None:
        """The client slows down after a refusal, and faster again only by the good answers that it hears of."""
        self.events.emit(
            f"needs-retry.s3.{operation}",
            response=response,
            endpoint=None,
            operation=form.model,
            attempts=1,
            caught_exception=None,
            request_dict={"context": dict(form.context)},
        )


def _learn(model: Any, params: Mapping[str, Any], request_signer: Any, **_: Any) -> None:
    """Handles the client's event, called with a request that is complete but for its signature."""
    if (learning := _learning.get()) is None or model.name != learning[1]:
        return
    senders, operation, request = learning
    form = _form(model, params, request_signer, request)
    kind = _kind(operation, request)
    if form is not None and senders.wire.reaches(form.base):
        senders.forms[kind] = form
    else:
        senders.forms.pop(kind, None)


def _kind(operation: str, request: Mapping[str, Any]) -> tuple[str, ...]:
    """Requests of one kind are alike in all that the client decides by more than the address of the bucket."""
    return operation, request["Bucket"], *(str(request.get(name)) for name in ("ChecksumAlgorithm", "ChecksumMode"))


def _form(model: Any, params: Mapping[str, Any], signer: Any, request: Mapping[str, Any]) -> _Form | None:
    """What can be repeated of a request, or None if ours would not be the same one."""
    context, target, own = params["context"], _target(request), _headers(request)
    plain = context.get("auth_type") == "v4" and set(context.get("signing", {})) <= _PLAIN_SIGNING
    if own is None or not plain or not params["url"].endswith(target) or params["method"] != _METHODS[model.name]:
        return None
    sent = {name.lower(): value for name, value in params["headers"].items() if name.lower() != "expect"}
    constant = {name: value for name, value in sent.items() if name in _CONSTANT and name not in own}
    if sent != constant | own:
        return None
    base = params["url"][: len(params["url"]) - len(target)]
    kept = {name: value for name, value in context.items() if name not in _OF_ONE}
    return _Form(base, constant, _checksum_before_body(kept), model, signer)


def _checksum_before_body(context: dict[str, Any]) -> dict[str, Any]:
    """The client sends some checksums behind the body, since it does not know the body; here it is known."""
    checksum = dict(context.get("checksum", {}))
    if isinstance(checksum.get("request_algorithm"), dict):
        checksum["request_algorithm"] = {**checksum["request_algorithm"], "in": "header"}
    return {**context, "checksum": checksum} if checksum else context


def _target(request: Mapping[str, Any]) -> str:
    """Key and version, as the client writes them behind the address of the bucket."""
    version = request.get("VersionId")
    query = "" if version is None else f"?versionId={quote(version, safe='-._~')}"
    return quote(request["Key"], safe="-._~/") + query


def _headers(request: Mapping[str, Any]) -> dict[str, str] | None:
    """What is asked for, as headers by lower-case name; None where only the client knows how to say it."""
    headers: dict[str, str] = {}
    for name, value in request.items():
        if name in _NO_HEADERS:
            continue
        text = str(value).lower() if isinstance(value, bool) else value
        if name not in _HEADER_NAMES or not _plain(text):
            return None
        headers[_HEADER_NAMES[name]] = text
    for name, value in request.get("Metadata", {}).items():
        if not _plain(name) or not _plain(value):
            return None
        headers[f"x-amz-meta-{name.lower()}"] = value
    return headers


def _plain(text: Any) -> bool:
    return isinstance(text, str) and text != "" and text.isascii() and text.isprintable() and text == text.strip()


def _signed(form: _Form, url: str, headers: dict[str, str], body: bytes, operation: str) -> Any:
    from botocore.awsrequest import create_request_object
    from botocore.httpchecksum import apply_request_checksum

    made: dict[str, Any] = {
        "method": _METHODS[operation],
        "url": url,
        "headers": headers,
        "body": body,
        "context": dict(form.context),
    }
    apply_request_checksum(made)
    request = create_request_object(made)
    form.signer.sign(operation, request)
    return request.prepare()


def _parsed(form: _Form, reply: Reply) -> dict[str, Any]:
    """The answer as the client would tell it."""
    from botocore.httpchecksum import handle_checksum_body
    from botocore.response import StreamingBody

    fields = _fields(form.model.output_shape)
    metadata = {"HTTPStatusCode": reply.status_code, "HTTPHeaders": dict(reply.headers), "RetryAttempts": 0}
    parsed: dict[str, Any] = {"ResponseMetadata": metadata}
    if fields.map is not None:
        parsed[fields.map[0]] = {}
    for name, value in reply.headers.items():
        if (member := fields.members.get(name)) is not None:
            parsed[member[0]] = member[1](value)
        elif fields.map is not None and name.startswith(fields.map[1]):
            parsed[fields.map[0]][name[len(fields.map[1]) :]] = value
    if fields.body is None:
        if reply.content:
            raise UnexpectedAnswerError(trouble=False)  # an error may come in a good answer
        return parsed
    told: dict[str, Any] = {
        "headers": reply.headers,
        "body": StreamingBody(reply.raw, len(reply.content)),
        "context": {},
    }
    answer: Any = reply
    handle_checksum_body(answer, told, form.context, form.model)
    parsed[fields.body] = told["body"]
    return parsed


@dataclass(frozen=True)
class _Fields:
    """What of an operation's answer stands in headers: by lower-case name its field and how to read it.

    ``map`` is the field of all headers that begin alike (user metadata), with that beginning.
    """

    members: Mapping[str, tuple[str, Callable[[str], Any]]]
    map: tuple[str, str] | None
    body: str | None


@lru_cache(maxsize=16)
def _fields(shape: Any) -> _Fields:
    from botocore.utils import parse_timestamp

    readers: dict[str, Callable[[str], Any]] = {
        "string": str,
        "integer": int,
        "long": int,
        "boolean": lambda value: value == "true",
        "timestamp": lambda value: parsedate_to_datetime(value) if value.endswith("GMT") else parse_timestamp(value),
    }
    members: dict[str, tuple[str, Callable[[str], Any]]] = {}
    found = None
    for name, member in shape.members.items():
        told = member.serialization
        if told.get("location") == "headers":
            found = (name, told.get("name", "").lower())
        elif told.get("location") == "header":
            # "Expires" the client keeps under two names, and leaves one out where it is no date.
            read = _refused if name == "Expires" else readers[member.type_name]
            members[told.get("name", name).lower()] = (name, read)
    return _Fields(members, found, shape.serialization.get("payload"))


def _refused(value: str) -> Any:
    raise UnexpectedAnswerError(trouble=False)
