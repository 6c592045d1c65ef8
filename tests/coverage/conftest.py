"""One record whose ids may turn up elsewhere."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from support.store import Store


@pytest.fixture
def record(store: Store) -> dict[str, UUID]:
    ids = {"message": uuid4(), "conversation": uuid4(), "account": uuid4()}
    store.insert_message(
        message_id=ids["message"], conversation_id=ids["conversation"], account_id=ids["account"], body="words"
    )
    return ids
