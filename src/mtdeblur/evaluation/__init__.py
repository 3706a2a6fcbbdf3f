"""Evaluation: metrics by their named conventions, and the protocol over folders of pairs."""
