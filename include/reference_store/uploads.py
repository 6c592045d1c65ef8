"""S3 writes by a bounded pool of threads: few wait at a time, and the first failure stops the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import BoundedSemaphore
from typing import TYPE_CHECKING

from reference_store.rows import StoredObject

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_WAITING_PER_THREAD = 4


class Uploader:
    """Puts objects; what concerns one key happens in order, on one thread."""

    def __init__(self, s3: S3Client, pool: ThreadPoolExecutor, threads: int) -> None:
        self._s3, self._pool = s3, pool
        self._room = BoundedSemaphore(threads * _WAITING_PER_THREAD)
        self._failure: BaseException | None = None
        self.keys = 0

    def put(self, bucket: str, stored: StoredObject, content_type: str = "application/json") -> None:
        """Queue an object; waits while too many are queued.

        Raises:
            Exception: whatever an earlier upload failed with.
        """

        def write() -> None:
            for content in (*stored.history, stored.content):
                if content is None:
                    self._s3.delete_object(Bucket=bucket, Key=stored.key)
                else:
                    self._s3.put_object(Bucket=bucket, Key=stored.key, Body=content, ContentType=content_type)

        self.keys += 1
        self._submit(write)

    def check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _submit(self, work: Callable[[], None]) -> None:
        self.check()
        self._room.acquire()
        self._pool.submit(work).add_done_callback(self._done)

    def _done(self, future: Future[None]) -> None:
        self._room.release()
        error = None if future.cancelled() else future.exception()
        if error is not None and self._failure is None:
            self._failure = error


@contextmanager
def uploader(s3: S3Client, threads: int) -> Iterator[Uploader]:
    """An uploader for a block; the block ends when everything is written, or with the first failure."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix="seed-s3")
    writer = Uploader(s3, pool, threads)
    try:
        yield writer
    except BaseException:
        pool.shutdown(wait=True, cancel_futures=True)
        raise
    pool.shutdown(wait=True)
    writer.check()
