"""Export of a model to other formats; each is run in its own runtime and compared before it is kept."""
