"""Input data on disk: photographs, clips of frames, pairs, temporal data sets and their manifests."""
