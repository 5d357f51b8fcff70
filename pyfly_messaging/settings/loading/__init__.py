"""One load from its begin to the end: all layers, what pydantic takes of them, what was found.

It depends on `sources` and `plugins` and what those depend on.
"""
