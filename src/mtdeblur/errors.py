"""The one exception that is meant for the person at the keyboard."""


class UserError(Exception):
    """Something that the user can put right; its text is one line: what is wrong, and what to do.

    The command line prints the text without a traceback and exits with code 1.
    """
