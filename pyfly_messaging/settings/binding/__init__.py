"""What was given meets what exists: neutral trees become layers, and slips complaints.

It depends on `catalogue` and what that depends on; where a tree comes from it does not know.
"""
