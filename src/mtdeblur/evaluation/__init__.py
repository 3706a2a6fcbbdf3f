"""Evaluation: metrics by named conventions, and the protocol for data sets of pairs."""
