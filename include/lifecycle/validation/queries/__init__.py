"""The auditor's queries, one module per subject. Each selects a constant per violation, so that no value can leave."""
