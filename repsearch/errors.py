"""The one exception for mistakes that a user can fix."""


class UserError(Exception):
    """Bad configuration, data, store or machine. The message is one line: what is wrong, where, and the remedy.

    Commands print it without a traceback and exit with status 1.
    """


def reason(error: BaseException) -> str:
    """The message of a library's error on one printable line of at most 300 characters."""
    words = " ".join(str(error).split())[:300] or type(error).__name__
    return words if words.isprintable() else ascii(words)
