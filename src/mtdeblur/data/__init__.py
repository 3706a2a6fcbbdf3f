"""Data sets: what lies on disk, making more of it, and feeding training with it."""
