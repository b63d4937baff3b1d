"""Extend cuts over the white space they would leave at the ends of a text."""

from collections.abc import Sequence

from tasks.select.pii_mask import merge_cuts


def extend_to_whitespace(text: str, cuts: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return cuts that include the white space they would leave at either end of the text."""
    out = list(cuts)
    head, n_leading = 0, 0
    while n_leading < len(out) and not text[head : out[n_leading][0]].strip():
        head = out[n_leading][1]
        n_leading += 1
    if n_leading:
        rest = text[head:]
        out = [(0, head + len(rest) - len(rest.lstrip())), *out[n_leading:]]
    tail, first_trailing = len(text), len(out)
    while first_trailing and not text[out[first_trailing - 1][1] : tail].strip():
        first_trailing -= 1
        tail = out[first_trailing][0]
    if first_trailing < len(out):
        out = [*out[:first_trailing], (len(text[:tail].rstrip()), len(text))]
    return merge_cuts(out)
