"""Character n-grams of words, hashed into buckets (Bojanowski et al. 2017, arXiv:1607.04606)."""

FNV_OFFSET, FNV_PRIME, MASK = 2166136261, 16777619, 0xFFFFFFFF
BEGIN, END = "<", ">"


def hash_ngrams(word: str, min_n: int, max_n: int, buckets: int) -> list[int]:
    """Return the buckets of the n-grams of a word between ``<`` and ``>``, as fastText hashes them.

    An n-gram has ``min_n`` to ``max_n`` characters; the two signs alone are none.
    """
    text = f"{BEGIN}{word}{END}"
    return [
        _hash(text[start : start + size]) % buckets
        for start in range(len(text))
        for size in range(min_n, max_n + 1)
        if start + size <= len(text) and not (size == 1 and start in (0, len(text) - 1))
    ]


def _hash(text: str) -> int:
    """Return FNV-1a of the UTF-8 bytes; fastText takes bytes as signed."""
    value = FNV_OFFSET
    for byte in text.encode():
        signed = byte | 0xFFFFFF00 if byte > 127 else byte
        value = ((value ^ signed) * FNV_PRIME) & MASK
    return value
