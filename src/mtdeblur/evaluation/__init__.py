"""Evaluation: the protocol over folders of pairs, by every metric, and what a run was measured on."""
