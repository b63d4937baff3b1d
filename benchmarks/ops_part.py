"""A unit of work that does nothing, in a module that workers can import."""


def do_nothing(index: int) -> int:
    """Return the argument."""
    return index
