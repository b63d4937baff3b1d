"""What a user can mend, told in one line."""


class UserError(Exception):
    """An error whose message says what was wrong, where, and what to do; shown without traceback."""
