"""How many tokens a text has at least, known without tokenizing it."""

import json
from typing import Any
from unicodedata import is_normalized

from tokenizers import Tokenizer

from infra.formats.byte_level import ALPHABET, token_to_bytes

# These keep every byte of a text, unless they are told to remove what they find.
_KEEPING = ("Sequence", "ByteLevel", "Split", "Digits")


class LengthBound:
    """A lower bound of the tokens of texts: their bytes, divided by those of the longest token.

    It holds for byte-level BPE that drops nothing and whose tokens take no spaces around them. For other tokenizers, and
    for texts that the tokenizer changes before it splits them, it is 0.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        content = json.loads(tokenizer.to_str())
        names = tokenizer.get_vocab(with_added_tokens=True)
        normalizer = content["normalizer"]
        self._is_nfc = normalizer == {"type": "NFC"}
        is_known = (
            (normalizer is None or self._is_nfc)
            and content["model"]["type"] == "BPE"
            and _keeps_all(content["pre_tokenizer"])
            and _is_byte_level(content["pre_tokenizer"])
            and names.keys() >= set(ALPHABET)
            and not any(item["lstrip"] or item["rstrip"] for item in content["added_tokens"])
        )
        # Added tokens are written as they are.
        added = {item["content"] for item in content["added_tokens"]}
        sizes = (
            len(name.encode() if name in added else token_to_bytes(name) or b"") for name in names
        )
        self._max_bytes = max(sizes) if is_known else 0

    def min_tokens(self, text: str) -> int:
        """Return the bound, for little beside what tokenizing costs."""
        if not self._max_bytes or (self._is_nfc and not is_normalized("NFC", text)):
            return 0
        return -(-len(text.encode()) // self._max_bytes)


def _keeps_all(pre_tokenizer: Any) -> bool:
    if pre_tokenizer is None:
        return False
    parts = pre_tokenizer.get("pretokenizers", [])
    return (
        pre_tokenizer["type"] in _KEEPING
        and pre_tokenizer.get("behavior") != "Removed"
        and all(map(_keeps_all, parts))
    )


def _is_byte_level(pre_tokenizer: Any) -> bool:
    """Return whether characters become bytes: otherwise a character is one token, of as many bytes as it has."""
    parts = pre_tokenizer.get("pretokenizers", [])
    return pre_tokenizer["type"] == "ByteLevel" or any(map(_is_byte_level, parts))
