"""A web page on which photographs sharpen, and the same for programs over HTTP."""
