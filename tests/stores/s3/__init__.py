"""The S3 store on a real server: embedded, or a Ceph gateway (see tests/conftest.py)."""

# Buckets of the reference store, by what they are used for here.
VERSIONED = "product-data"
LOGS = "product-logs"
LOCKED = "quarantine"
PLAIN = "research"
