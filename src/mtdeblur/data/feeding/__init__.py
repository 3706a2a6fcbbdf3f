"""Data loading for training: batches of ladders from packs and data sets, and validation sets."""
