"""The conformance kit on our three adapters, and nothing else."""
