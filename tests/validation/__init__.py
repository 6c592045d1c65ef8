"""The auditor, the Great Expectations suite and the report: each must see a promise that is broken."""
