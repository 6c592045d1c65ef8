"""S3 Batch Operations: a manifest of survivors, the request of a job, and what its completion report is worth."""
