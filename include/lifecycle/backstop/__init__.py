"""The native backstop: S3 Lifecycle rules compiled from policy and datasets, at the deadline itself (hard case 1)."""
