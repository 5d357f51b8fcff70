"""How fast the library is, beside the raw clients and the peers, in the same run."""
