"""What settings exist, read from the models: how to find, name, describe and show one.

It depends on `models`, `diagnostics` and `text`.
"""
