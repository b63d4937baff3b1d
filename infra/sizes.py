"""Sizes as people write them: 512MiB, 500GB."""

from pydantic import ByteSize, TypeAdapter

_SIZE: TypeAdapter[ByteSize] = TypeAdapter(ByteSize)


def parse_size(text: str) -> int:
    """Return the bytes that a size stands for.

    Raises:
        ValueError: if it is none (pydantic's ``ValidationError``).
    """
    return int(_SIZE.validate_python(text))
