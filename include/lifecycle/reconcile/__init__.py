"""Rows against objects, out of core: listings or S3 Inventory, DuckDB on disk, in bounded memory (hard case 13)."""
