"""What is cut out of a text, made neat at its ends."""

from collections.abc import Sequence

from tasks.select.pii_mask import merge_cuts


def extend_to_whitespace(text: str, cuts: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Cuts with the white space that they would leave at either end of the text."""
    out = list(cuts)
    head, taken = 0, 0
    while taken < len(out) and not text[head : out[taken][0]].strip():
        head = out[taken][1]
        taken += 1
    if taken:
        rest = text[head:]
        out = [(0, head + len(rest) - len(rest.lstrip())), *out[taken:]]
    tail, left = len(text), len(out)
    while left and not text[out[left - 1][1] : tail].strip():
        left -= 1
        tail = out[left][0]
    if left < len(out):
        out = [*out[:left], (len(text[:tail].rstrip()), len(text))]
    return merge_cuts(out)
