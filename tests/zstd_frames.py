"""Frames of zstd that tests put into files."""


def skippable_frame(content: bytes, number: int = 0) -> bytes:
    """A frame that decoders must skip (RFC 8878, 3.1.2)."""
    return bytes((0x50 + number,)) + b"\x2a\x4d\x18" + len(content).to_bytes(4, "little") + content
