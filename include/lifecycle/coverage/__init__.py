"""What exists, compared with what is configured (hard cases 23 and 24). A pure core compares; readers gather facts.

Uses catalog, policy and the connection, and nothing of the code that deletes: the auditor calls it.
"""
