"""Errors that a user can correct."""


class UserError(Exception):
    """An error whose message says what was wrong, where, and what to do; shown without traceback."""
