"""Exposures and their temporal levels, from real or simulated frames."""
