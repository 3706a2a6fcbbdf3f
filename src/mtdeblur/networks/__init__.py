"""Progressive networks: their contract, one file per network, and the unroll loop."""
