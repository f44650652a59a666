"""The one exception for mistakes that a user can mend."""


class UserError(Exception):
    """Bad configuration, data, store or machine. The message is one line: what is wrong, where, and the remedy.

    Commands print it without a traceback and exit with status 1.
    """


def reason(error: BaseException) -> str:
    """What an error of a library says, as a part of a line."""
    words = " ".join(str(error).split())[:300] or type(error).__name__
    return words if words.isprintable() else ascii(words)
