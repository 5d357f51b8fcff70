"""Brokers with one fault each, made of a sound one, to see whether the kit notices."""
