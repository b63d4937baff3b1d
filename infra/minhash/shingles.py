"""Reference definitions: normalized text, words and shingles.

``infra.minhash.sketch`` holds the compiled form; tests check that it gives the same values.
These definitions are short enough to copy for reproducing a signature:

* *folded text*: Unicode NFC, then every character in simple lower case (the first character of its
  ``str.lower``, so that a text keeps its number of characters).
* *normalized text* (compared for exact duplicates): folded text, each run of white space replaced by
  one space, none at either end. Punctuation is kept: two programs that differ in an operator are not
  the same text.
* *word*: in the folded text, a run of letters, digits, combining marks and ``_``. Each character of
  scripts written without spaces (Han, Hiragana, Katakana) is a word. A run of more than 64 characters
  is split every 64, which bounds memory on text without spaces.
* *shingle*: n consecutive words joined by one space, in UTF-8; or, with characters as the unit, n
  consecutive characters of the normalized text.
"""

import unicodedata
from collections.abc import Iterator

from infra.formats.unicode_tables import CJK, SPACE, WORD, char_tables

MAX_WORD_CHARS = 64


def lowercase_nfc(text: str) -> str:
    """Return the text in NFC, then each character in simple lower case."""
    return "".join(char.lower()[0] for char in unicodedata.normalize("NFC", text))


def normalize(text: str) -> str:
    """Return the normalized text; equal for exact duplicates."""
    classes, _ = char_tables()
    folded = "".join(" " if classes[ord(char)] & SPACE else char for char in lowercase_nfc(text))
    return " ".join(part for part in folded.split(" ") if part)


def split_words(text: str) -> Iterator[str]:
    """Yield the words of a text, in order."""
    classes, _ = char_tables()
    word = ""
    for char in lowercase_nfc(text):
        kind = classes[ord(char)]
        alone = bool(kind & CJK)
        if word and (alone or not kind & WORD or len(word) == MAX_WORD_CHARS):
            yield word
            word = ""
        if kind & WORD:
            if alone:
                yield char
            else:
                word += char
    if word:
        yield word


def shingles(text: str, n: int, unit: str = "words") -> list[bytes]:
    """Return every shingle of n units, in order, with repeats; empty if the text has fewer units."""
    if unit == "characters":
        plain = normalize(text)
        return [plain[i : i + n].encode() for i in range(len(plain) - n + 1)]
    words = list(split_words(text))
    return [" ".join(words[i : i + n]).encode() for i in range(len(words) - n + 1)]
