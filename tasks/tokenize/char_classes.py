"""Letters, numbers and white space as `tokenizers` sees them: its own Unicode tables, asked for.

Its regular expressions follow the Unicode version they were built with, which need not be Python's.
So every code point is put to the library once, and the answer is kept in the machine's cache.
"""

from functools import cache
from importlib.metadata import version

import numpy as np
import numpy.typing as npt
from tokenizers import Regex, pre_tokenizers

from infra.formats.unicode_tables import NUM_CODE_POINTS, SURROGATES
from infra.store.cache_dir import cache_root, write_atomic

OTHER, LETTER, NUMBER, SPACE, NEWLINE = range(5)
CharClasses = npt.NDArray[np.uint8]


@cache
def char_classes() -> CharClasses:
    """uint8[0x110000]: the class of each code point; ``NEWLINE`` is a carriage return or line feed."""
    path = cache_root() / "classes" / f"tokenizers-{version('tokenizers')}.bin"
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        data = b""
    if len(data) != NUM_CODE_POINTS:
        data = build_char_classes().tobytes()
        write_atomic(path, lambda out: out.write(data))
    return np.frombuffer(data, np.uint8)


def build_char_classes() -> CharClasses:
    """The classes, put together from the library's answers; takes seconds."""
    points = [point for point in range(NUM_CODE_POINTS) if point not in SURROGATES]
    text = "".join(map(chr, points))
    result = np.full(NUM_CODE_POINTS, OTHER, np.uint8)
    for kind, pattern in ((LETTER, r"\p{L}+"), (NUMBER, r"\p{N}+"), (SPACE, r"\s+")):
        cut = pre_tokenizers.Split(Regex(rf"[^{pattern[:-1]}]+"), behavior="removed")
        for run, _ in cut.pre_tokenize_str(text):
            result[[ord(char) for char in run]] = kind
    result[[ord("\r"), ord("\n")]] = NEWLINE
    return result
