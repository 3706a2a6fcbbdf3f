"""Evaluation: the protocol for data sets of pairs, by every metric, and the provenance of figures."""
