"""The paper's tables and figures as named runs: each is a data file, one program makes them all."""
