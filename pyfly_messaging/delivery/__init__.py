"""What happens to a message, without any broker: settlement, retry, order, acknowledgement, drain.

The way of a message: an adapter hands what arrived to `lanes`, which keep the order and bound what
runs at once; they run `routing`, which picks the handlers; `settlement` decides what becomes of the
message; `ledger` and `acknowledge` tell the adapter what it may acknowledge, and when.
"""
