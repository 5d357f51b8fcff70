"""Tests of what `pyfly_messaging.testing` offers."""
