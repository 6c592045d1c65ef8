"""A server that costs next to nothing: so that what remains is the client's own part. For s3_engine.py only.

It knows one bucket with the keys of a file (sorted), each of one version, lists versions, takes DeleteObjects, and
checks nothing. Prints its port.
"""

from __future__ import annotations

import argparse
import bisect
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

PAGE = 1000
_KEY = re.compile(rb"<Key>([^<]*)</Key>")
_ENTRY = (
    "<Version><Key>{0}</Key><VersionId>{1:032x}</VersionId><IsLatest>true</IsLatest>"
    "<LastModified>2026-06-01T00:00:00.000Z</LastModified><ETag>&quot;7265f4d211b56873a381d321f586e4a9&quot;</ETag>"
    "<Size>1024</Size><StorageClass>STANDARD</StorageClass><Owner><ID>owner</ID></Owner></Version>"
)
_LISTING = (
    '<ListVersionsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><EncodingType>url</EncodingType>'
    "<IsTruncated>{more}</IsTruncated><NextKeyMarker>{last}</NextKeyMarker><NextVersionIdMarker>v</NextVersionIdMarker>"
    "{entries}</ListVersionsResult>"
)


class Bucket:
    """The keys in order, and which of them are gone."""

    def __init__(self, keys: list[str]) -> None:
        self.keys = keys
        self.place = {key: place for place, key in enumerate(keys)}
        self.there = bytearray(b"\1") * len(keys)

    def listing(self, prefix: str, after: str, most: int) -> bytes:
        start = bisect.bisect_left(self.keys, prefix)
        start = max(start, bisect.bisect_right(self.keys, after)) if after else start
        found: list[int] = []
        place = self.there.find(1, start)
        while place >= 0 and self.keys[place].startswith(prefix) and len(found) <= most:
            found.append(place)
            place = self.there.find(1, place + 1)
        page = found[:most]
        return _LISTING.format(
            more=str(len(found) > most).lower(),
            last=self.keys[page[-1]] if page else "",
            entries="".join(_ENTRY.format(self.keys[place], place) for place in page),
        ).encode()

    def delete(self, body: bytes) -> None:
        for key in _KEY.findall(body):
            self.there[self.place[key.decode()]] = 0


def handler(bucket: Bucket) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
            if "versions" in query:
                most = int(query.get("max-keys", [str(PAGE)])[0])
                prefix, after = (query.get(name, [""])[0] for name in ("prefix", "key-marker"))
                self._answer(200, bucket.listing(prefix, after, most))
            elif "object-lock" in query:
                self._answer(404, b"<Error><Code>ObjectLockConfigurationNotFoundError</Code></Error>")
            elif "uploads" in query:
                self._answer(
                    200, b"<ListMultipartUploadsResult><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>"
                )
            else:
                self._answer(200, b"<ListAllMyBucketsResult/>")

        def do_POST(self) -> None:
            bucket.delete(self.rfile.read(int(self.headers["Content-Length"])))
            self._answer(200, b"<DeleteResult/>")

        def _answer(self, status: int, body: bytes) -> None:
            head = f"HTTP/1.1 {status} -\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
            self.wfile.write(head.encode() + body)

        def log_message(self, format: str, *args: Any) -> None:
            """Silent."""

    return Handler


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("keys", type=Path)
    bucket = Bucket(parser.parse_args().keys.read_text(encoding="utf-8").splitlines())
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(bucket))
    server.daemon_threads = True
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
