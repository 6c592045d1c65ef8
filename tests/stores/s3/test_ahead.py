"""Several at once, in order, within bounds of number and size; what fails fails in its place."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from lifecycle.stores.s3.ahead import beside_each_other


class Work:
    """Sizes to be worked on; how many, and how much, was at work at once. None ends before the last may."""

    def __init__(self, expected: int) -> None:
        self.lock, self.full = threading.Lock(), threading.Event()
        self.open: list[int] = []
        self.most = self.largest = 0
        self.expected = expected

    def __call__(self, size: int) -> int:
        with self.lock:
            self.open.append(size)
            self.most, self.largest = max(self.most, len(self.open)), max(self.largest, sum(self.open))
            if len(self.open) >= self.expected:
                self.full.set()
        assert self.full.wait(10)
        with self.lock:
            self.open.remove(size)
        return size


def _size(size: int) -> int:
    return size


def test_as_many_at_once_as_are_allowed_and_in_order() -> None:
    work = Work(expected=4)
    sizes = [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert list(beside_each_other(work, iter(sizes), _size, 4, 100)) == sizes
    assert work.most == 4


@pytest.mark.parametrize(("sizes", "at_once"), [([5, 5, 6, 1], 2), ([50, 1, 50], 1), ([3, 3, 3, 3], 3)])
def test_no_more_than_there_is_room_for_and_what_is_larger_goes_alone(sizes: list[int], at_once: int) -> None:
    work = Work(expected=at_once)
    assert list(beside_each_other(work, iter(sizes), _size, 8, 10)) == sizes
    assert work.most == at_once
    assert work.largest <= max(10, *sizes)


def test_what_fails_fails_after_what_comes_before_it_and_nothing_goes_on_behind() -> None:
    asked: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(1000):
            asked.append(number)
            yield number

    def make(number: int) -> int:
        if number == 3:
            raise ValueError("three")
        return number

    made: list[int] = []
    with pytest.raises(ValueError, match="three"):
        made.extend(beside_each_other(make, numbers(), lambda _: 1, 2, 100))
    assert made == [0, 1, 2]
    assert len(asked) < 10


def test_items_are_asked_for_where_the_connection_is() -> None:
    def numbers() -> Iterator[int]:
        for number in range(5):
            assert threading.current_thread() is threading.main_thread()
            yield number

    elsewhere: Callable[[int], bool] = lambda _: threading.current_thread() is not threading.main_thread()  # noqa: E731
    assert all(beside_each_other(elsewhere, numbers(), lambda _: 1, 3, 100))
