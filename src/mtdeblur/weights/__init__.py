"""Weights of networks: the shipped files, their catalogue, and the layouts of other programs."""
