"""The one exception for mistakes that a user can mend."""


class UserError(Exception):
    """Bad configuration, data, store or machine. The message is one line: what is wrong, where, and the remedy.

    Commands print it without a traceback and exit with status 1.
    """
