"""Picture and video files with their metadata, and before/after sheets."""
