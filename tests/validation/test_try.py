from datetime import UTC, datetime, timedelta
import time
AS_OF = datetime(2026, 11, 1, tzinfo=UTC)
def test_try(store):
    for tier in ("consumer", "beta", "evaluation", "business"):
        for age in (1, 24, 26, 40, 86, 88, 100, 400):
            store.insert_message(tier=tier, received_at=AS_OF - timedelta(days=age), body=f"x{age}")
        store.insert_message(tier=tier, received_at=AS_OF - timedelta(days=100), object_body="hello")
        store.insert_message(tier=tier, received_at=AS_OF - timedelta(days=2), object_body="hello")
    t=time.time()
    r = store.cli("audit", "--as-of", "2026-11-01", check=False)
    print(r.returncode, r.stdout, r.stderr, time.time()-t)
    assert 0
