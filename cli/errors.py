"""Errors that end a command with one line on stderr instead of a traceback."""


class CliError(Exception):
    """Something outside the program is wrong; the text says what was found and what to do."""

    exit_code = 1


class UsageError(CliError):
    """The command line itself is wrong."""

    exit_code = 2
