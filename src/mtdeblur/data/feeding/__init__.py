"""Feeding training: batches of ladders from packs and data sets, and the pictures for validation."""
