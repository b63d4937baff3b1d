"""What tokens stand for, and how words are written where white space divides fields."""

import json

from tokenizers import Tokenizer

from infra.formats.byte_level import token_to_bytes

SPACE_SIGN = "▁"  # as SentencePiece writes a space


def token_texts(tokenizer: bytes) -> list[str]:
    """Return the text of each token of a ``tokenizer.json``.

    A byte-level vocabulary spells each byte by a character, SentencePiece's a space by ``▁``: neither is
    the text. Bytes that are no characters by themselves, of a token that ends within one, are written as
    SentencePiece does: ``<0xE6>``.
    """
    decoder = json.dumps(json.loads(tokenizer).get("decoder"), ensure_ascii=False)
    loaded = Tokenizer.from_buffer(tokenizer)
    names = [loaded.id_to_token(number) or "" for number in range(loaded.get_vocab_size())]
    if '"ByteLevel"' in decoder:
        return [_decode(token_to_bytes(name), name) for name in names]
    return [name.replace(SPACE_SIGN, " ") if SPACE_SIGN in decoder else name for name in names]


def _decode(data: bytes | None, name: str) -> str:
    if data is None:  # an added token, which is spelled as it is
        return name
    try:
        return data.decode()
    except UnicodeDecodeError:
        return _write_bytes(data)


def write_field(word: str) -> str:
    """Return a word without white space: ``▁`` for a space, other white space as bytes (``<0x0A>``)."""
    if not any(char.isspace() or char == SPACE_SIGN for char in word):
        return word
    return "".join(
        SPACE_SIGN
        if char == " "
        else _write_bytes(char.encode())
        if char.isspace() or char == SPACE_SIGN
        else char
        for char in word
    )


def _write_bytes(data: bytes) -> str:
    return "".join(f"<0x{byte:02X}>" for byte in data)
