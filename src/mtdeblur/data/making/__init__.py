"""Building of data sets from high-speed frames and from photographs, in worker processes."""
