"""Adapters: between a client library and `pyfly_messaging.delivery`; each is imported when used."""
