"""An ordinary table becomes a partitioned one while it is in use (ARCHITECTURE.md, "Partitioning online")."""
