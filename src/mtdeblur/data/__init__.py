"""Data sets: input data on disk, building of new ones, and data loading for training."""
