"""What is wrong with what was loaded, in each setting and between them; the last word on it.

It depends on `loading` and what that depends on.
"""
