"""What people and editors see of settings: explained, listed, as a schema, as a commented file.

It depends on everything else in `settings`, and nothing there depends on it.
"""
