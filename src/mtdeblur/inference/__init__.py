"""Deblurring of pictures and files, with exact tiling or blended windows."""
