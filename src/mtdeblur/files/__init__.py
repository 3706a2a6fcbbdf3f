"""Atomic files, and the journal of a long job."""
