"""Deblurring pictures: exact tiling, the Deblurrer, and whole folders at once."""
