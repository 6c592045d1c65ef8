from datetime import UTC, datetime, timedelta
import time
from validation.healthy import build, AS_OF, ago, put_message, register_run, hold, erasure
def test_try(store):
    h=build(store)
    put_message(store, tier="consumer", received_at=ago(days=91), body="late")
    for d in (24.5,26,27): put_message(store, tier="business", received_at=ago(days=d), body="late")
    for d in (84,88,88,89): put_message(store, tier="beta", received_at=ago(days=d), body="late")
    m=put_message(store, tier="beta", received_at=ago(days=120), body="late"); hold(store,"message",m,released_at=ago(hours=-1))
    m=put_message(store, tier="evaluation", received_at=ago(days=120), body="late"); hold(store,"message",m,released_at=ago(hours=0.5))
    store.sql("update lifecycle.runs set as_of = as_of - interval '3 hours'")
    erasure(store,"account",m,requested_at=ago(hours=5))
    from lifecycle.validation import step
    from lifecycle.config import load_configuration
    from lifecycle.console.data import overview
    from lifecycle.console.app import render_page
    with store.connect() as c:
        for scope in ("consumer","beta","records"):
            rid = register_run(store, scope, ago(hours=1), status="running")
            step.validate_run(c, store.s3, rid)
            store.sql("update lifecycle.runs set status = case when scope='consumer' then 'failed' else 'succeeded' end, finished_at=now(), summary='{\"disposed\":{\"delete\":1234567,\"quarantine\":12},\"kept\":{\"legal_obligation\":3,\"feedback\":17}}' where run_id=%s", rid)
        t=time.time(); o=overview(c, store.s3, load_configuration(), AS_OF); print(time.time()-t)
        open("/tmp/validation/console.html","w").write(render_page(o,"x"))
        import json; print(json.dumps(o.as_dict())[:1500])
