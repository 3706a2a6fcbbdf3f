"""Incremental temporal training (Section 4.1 of the paper): configuration, algorithm and run."""
