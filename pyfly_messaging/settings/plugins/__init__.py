"""The adapters of other distributions: found, imported when named, and given their section.

It depends on `models`, `diagnostics` and `text`, and on `ports`, which an adapter has to fit. It is
imported only when one is asked for.
"""
