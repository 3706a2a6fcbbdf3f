"""Weights of networks: the shipped files, their cards, and the key maps of other people's layouts."""
