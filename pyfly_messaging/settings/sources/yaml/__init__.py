"""YAML files. Nothing here is imported before there is one to read: it imports the parser.

It is a part of `sources`, and depends on what that depends on.
"""
