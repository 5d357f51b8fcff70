"""Tests of the command line, and of the output that the documentation shows."""
