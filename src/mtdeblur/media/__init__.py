"""Picture and video files, with all but the pixels kept, and sheets of pictures before and after."""
