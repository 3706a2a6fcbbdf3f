"""Temporal levels: what an exposure of n sharp frames records, from real or simulated frames."""
