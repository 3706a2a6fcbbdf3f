"""The paper's tables and figures as named runs, each described by a data file."""
