"""Progressive networks: one contract, one file a network, and the loop that unrolls them."""
