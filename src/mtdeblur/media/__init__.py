"""Picture files: reading and writing them whole, with everything but the pixels kept."""
