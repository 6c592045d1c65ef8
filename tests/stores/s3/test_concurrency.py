"""The number of requests side by side: bounded, lower when the server says so, back again when it bears it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle.stores.s3.concurrency import FIRST, Concurrency, Turns

CEILINGS = st.integers(1, 64)


@given(ceiling=CEILINGS, answers=st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=200))
def test_it_stays_between_one_and_the_ceiling(ceiling: int, answers: list[tuple[int, bool]]) -> None:
    now = Concurrency.starting(ceiling)
    for behind, busy in answers:
        before = now
        now = now.after(max(0, now.episode - behind), busy=busy)
        assert 1 <= now.allowed <= ceiling
        assert (now.limit >= before.limit) if not busy else (now.limit <= before.limit)


@given(ceiling=CEILINGS, sent=st.integers(1, 64))
def test_one_wave_that_was_too_much_is_one_reason_to_slow_down(ceiling: int, sent: int) -> None:
    start = Concurrency.starting(ceiling)
    now = start
    for _ in range(sent):
        now = now.after(start.episode, busy=True)
    assert now.limit == max(1.0, start.limit / 2)
    assert now.after(now.episode, busy=True).limit == max(1.0, now.limit / 2)


@given(ceiling=CEILINGS)
def test_it_grows_by_one_with_each_wave_of_good_answers(ceiling: int) -> None:
    now = Concurrency(ceiling, 1.0)
    for wave in range(1, ceiling + 1):
        assert now.allowed <= wave
        for _ in range(now.allowed + 1):
            now = now.after(now.episode, busy=False)
    assert now.allowed >= ceiling - 1


@given(bears=st.integers(1, 40), ceiling=st.integers(1, 64))
def test_it_finds_what_a_server_bears(bears: int, ceiling: int) -> None:
    """Waves against a server that refuses whatever is over its capacity: never idle, and seldom over it."""
    now, over, sent = Concurrency.starting(ceiling), 0, 0
    for wave in range(200):
        size, episode = now.allowed, now.episode
        for request in range(size):
            busy = request >= bears
            now = now.after(episode, busy=busy)
            if wave >= 20:
                over, sent = over + busy, sent + 1
    assert now.allowed <= bears + 1
    assert now.allowed >= min(bears, ceiling) // 2
    assert over <= sent * 0.34


@pytest.mark.parametrize("busy", [False, True])
def test_threads_wait_for_their_turn(busy: bool) -> None:
    turns, running, most = Turns(Concurrency(4, 2.0)), 0, 0
    lock = threading.Lock()

    def work(_: int) -> None:
        nonlocal running, most
        with turns.take() as turn:
            with lock:
                running += 1
                most = max(most, running)
                assert running <= 4
            turn.busy = busy
            with lock:
                running -= 1

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(work, range(200)))
    assert turns.running == 0
    assert turns.concurrency.allowed == (1 if busy else 4)


def test_a_request_that_fails_gives_its_turn_back() -> None:
    turns = Turns(Concurrency(1, 1.0))
    with pytest.raises(RuntimeError), turns.take():
        raise RuntimeError
    with turns.take() as turn:
        assert turn.episode == 0
    assert Concurrency.starting(100).allowed == FIRST
