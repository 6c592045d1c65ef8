"""Tickets and processes that die: on a store of its own, since there is one store at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from backstop.test_tickets import TAG, tags, with_backstop
from oracle.facts import World
from oracle.named import AS_OF, DAY, in_landing, message
from oracle.stores import Servers
from support.approve import approve_loaded
from support.scopes import carry_out


def test_case_27_a_process_that_dies_before_its_commit_has_given_no_ticket(
    servers: Servers, sql_judges: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case 27: the copy stands at its day while its row still names landing, where no shield would look for it."""
    lost = in_landing(message("lost", "beta", DAY * 2))
    with servers.store(World(messages=(lost,))) as store:
        for name, value in store.env.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("LIFECYCLE_DATASETS", str(with_backstop(tmp_path)))
        approve_loaded(AS_OF)

        def die(*args: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as dying:
            dying.setattr("lifecycle.dispositions.landing.record_progress", die)
            with pytest.raises(KeyboardInterrupt):
                carry_out(AS_OF, "beta", validated=False)
        assert store.value("SELECT object_key FROM app.messages") == lost.landing_key
        assert tags(store, lost) == [{}]
        assert carry_out(AS_OF + DAY, "beta", validated=False).code == 0
        assert tags(store, lost) == [{TAG: "consumer_default"}]
