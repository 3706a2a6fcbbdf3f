"""Training data: photographs, high-speed frames, pairs, the training pack, and ladders made from them."""
