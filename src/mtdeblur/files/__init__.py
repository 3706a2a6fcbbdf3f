"""Atomic files and journals."""
