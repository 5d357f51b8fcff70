"""Text on its way in and out, whatever setting it is of: names, durations, scalars, secrets.

It depends on nothing.
"""
