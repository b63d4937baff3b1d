"""Words of texts: runs of letters, digits, marks and ``_``; Han and kana stand alone."""

import numpy as np
import numpy.typing as npt

from infra.jit import kernel
from infra.unicode import CJK, WORD, decode, tables

U8 = npt.NDArray[np.uint8]


@kernel
def _count(data: U8, classes: U8) -> int:
    n = 0
    i = 0
    inside = False
    while i < len(data):
        point, i = decode(data, i)
        kind = classes[point]
        alone = (kind & CJK) != 0
        word = (kind & WORD) != 0
        n += word and (alone or not inside)
        inside = word and not alone
    return n


def count_words(text: str) -> int:
    """The words of a text."""
    return int(_count(np.frombuffer(text.encode(), np.uint8), tables()[0]))
