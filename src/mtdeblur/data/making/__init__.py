"""Making data sets: exposures from high-speed frames and from photographs, by worker processes."""
