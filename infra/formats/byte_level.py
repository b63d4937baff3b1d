"""The spelling of byte-level vocabularies: a printable character stands for each byte."""


def _alphabet() -> list[str]:
    """Return the character that represents each byte in a vocabulary (Radford et al. 2019)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte if byte in plain else next(others)) for byte in range(256)]


# The character of each byte, and the other way round.
ALPHABET = _alphabet()
BYTE_BY_CHAR = {char: byte for byte, char in enumerate(ALPHABET)}


def token_to_bytes(token: str) -> bytes | None:
    """Return the bytes that an entry of a byte-level vocabulary stands for, ``None`` for others."""
    try:
        return bytes([BYTE_BY_CHAR[char] for char in token])
    except KeyError:
        return None
