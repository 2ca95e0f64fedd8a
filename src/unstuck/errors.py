"""Errors that are the user's to mend: one sentence each, ending in the next thing to do."""


class UserError(Exception):
    """A mistake in what the user gave us. The command line prints the sentence alone and exits with status 2.

    Args:
        message: one or two sentences; the last says what to do or which command to try next.
    """
