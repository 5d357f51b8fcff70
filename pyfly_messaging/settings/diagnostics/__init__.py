"""What there is to say about a configuration: origins, problems with their codes, reports.

It depends on `text` only.
"""
