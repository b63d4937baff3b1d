"""The text of tokens, one after the other, in whole characters."""

import codecs
import json

from tokenizers import Tokenizer

from infra.errors import UserError
from infra.formats.byte_level import token_to_bytes


class TokenTexts:
    """What the tokens of a byte-level tokenizer stand for; special ones stand for nothing.

    Raises:
        UserError: if the tokenizer's vocabulary does not spell bytes.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        content = json.loads(tokenizer.to_str())
        if '"ByteLevel"' not in json.dumps(content.get("decoder")):
            raise UserError(
                "tokenizer.json: only byte-level tokenizers can be served; its decoder is another one"
            )
        vocabulary = tokenizer.get_vocab(with_added_tokens=True)
        self._names = [""] * (max(vocabulary.values()) + 1)
        self._bytes = [b""] * len(self._names)
        for name, token in vocabulary.items():
            self._names[token] = name
            self._bytes[token] = token_to_bytes(name) or name.encode()
        self._special = {item["id"] for item in content["added_tokens"] if item["special"]}

    def __len__(self) -> int:
        return len(self._names)

    def to_bytes(self, token: int) -> bytes:
        """Return the bytes of a token in a text: none of a special one, or of one without a name."""
        if token in self._special or token >= len(self._bytes):
            return b""
        return self._bytes[token]

    def spell(self, token: int) -> str:
        r"""Return a token as text; ``bytes:\xe2\x82`` if it is no whole characters, as OpenAI writes it."""
        if token >= len(self._names):
            return f"<{token}>"
        if token in self._special:
            return self._names[token]
        try:
            return self._bytes[token].decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in self._bytes[token])

    def spell_bytes(self, token: int) -> list[int]:
        """Return the bytes of a token; of a special one those of its name."""
        if token >= len(self._names):
            return []
        return list(self._names[token].encode() if token in self._special else self._bytes[token])


class Detokenizer:
    """Turns tokens into text. What it has returned is never taken back.

    The texts that it returns add up to what ``Tokenizer.decode`` returns for all tokens together.
    """

    def __init__(self, tokens: TokenTexts) -> None:
        self._tokens = tokens
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token: int) -> str:
        """Return the characters that are complete with this token."""
        return self._decoder.decode(self._tokens.to_bytes(token))

    def finish(self) -> str:
        """Return U+FFFD if the text ends within a character, else nothing."""
        return self._decoder.decode(b"", final=True)
