"""How a text is read: normalised, cut into words, words joined into shingles.

These are the definitions; ``tasks.dedup.minhash.sketch`` holds the compiled form, which tests hold to give
the same values. They are short enough to be copied by someone who wants to reproduce a signature:

* *folded*: Unicode NFC, then every character in simple lower case (the first character of its
  ``str.lower``, so that a text keeps its number of characters).
* *normalised text* (what exact comparison sees): folded, each run of white space one space, none at
  either end. Punctuation stays: two programs that differ in an operator are not the same text.
* *word*: in the folded text, a run of letters, digits, marks and ``_``. Characters of scripts
  written without spaces (Han, Hiragana, Katakana) are words by themselves. A run of more than 64
  characters is cut every 64, which bounds memory on text without spaces.
* *shingle*: n consecutive words joined by one space, in UTF-8; or, where characters are asked for,
  n consecutive characters of the normalised text.
"""

import unicodedata
from collections.abc import Iterator

from infra.formats.unicode_tables import CJK, SPACE, WORD, char_tables

MAX_WORD_CHARS = 64  # characters


def lowercase_nfc(text: str) -> str:
    """NFC, then simple lower case, character by character."""
    return "".join(char.lower()[0] for char in unicodedata.normalize("NFC", text))


def normalize(text: str) -> str:
    """What two texts must share to be exact duplicates."""
    classes, _ = char_tables()
    folded = "".join(" " if classes[ord(char)] & SPACE else char for char in lowercase_nfc(text))
    return " ".join(part for part in folded.split(" ") if part)


def split_words(text: str) -> Iterator[str]:
    """The words of a text, in order."""
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
    """Every shingle of n units, in order, repeats included; empty for a text of fewer."""
    if unit == "characters":
        plain = normalize(text)
        return [plain[i : i + n].encode() for i in range(len(plain) - n + 1)]
    found = list(split_words(text))
    return [" ".join(found[i : i + n]).encode() for i in range(len(found) - n + 1)]
