"""Classes of code points (letter, number, white space) as `tokenizers` defines them.

Its regular expressions use the Unicode version that they were built with, which may differ from
Python's. Every code point is therefore classified by the library once, and the result is stored in
the cache folder of this machine.
"""

from functools import cache
from importlib.metadata import version

import numpy as np
from tokenizers import Regex, pre_tokenizers

from infra.compute.arrays import U8
from infra.formats.unicode_tables import NUM_CODE_POINTS, SURROGATES
from infra.store.cache_dir import cache_root, write_atomic

OTHER, LETTER, NUMBER, SPACE, NEWLINE = range(5)
CharClasses = U8


@cache
def char_classes() -> CharClasses:
    """Return the class of each code point: uint8[0x110000].

    ``NEWLINE`` is a carriage return or a line feed.
    """
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
    """Classify every code point with the library; takes seconds."""
    points = [point for point in range(NUM_CODE_POINTS) if point not in SURROGATES]
    text = "".join(map(chr, points))
    result = np.full(NUM_CODE_POINTS, OTHER, np.uint8)
    for kind, pattern in ((LETTER, r"\p{L}+"), (NUMBER, r"\p{N}+"), (SPACE, r"\s+")):
        split = pre_tokenizers.Split(Regex(rf"[^{pattern[:-1]}]+"), behavior="removed")
        for run, _ in split.pre_tokenize_str(text):
            result[[ord(char) for char in run]] = kind
    result[[ord("\r"), ord("\n")]] = NEWLINE
    return result
