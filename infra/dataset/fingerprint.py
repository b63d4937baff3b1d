"""Names made from content: digests, document ids and the numbers that sampling uses."""

import hashlib
import json
from typing import Any


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys and no spare space: equal values give equal bytes.

    Raises:
        TypeError: if a value is not plain JSON.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def json_sha256(value: Any) -> str:
    """SHA-256 of a JSON value, as 64 hexadecimal characters."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def bytes_sha256(data: bytes) -> str:
    """SHA-256 of bytes, as 64 hexadecimal characters."""
    return hashlib.sha256(data).hexdigest()


def document_id(source: str, url: str, content: bytes) -> str:
    """A document's id for life: 32 hexadecimal characters of BLAKE2b.

    Args:
        source: the name of the source in the recipe.
        url: the canonical URL, or the book's own address; empty when it has none.
        content: the bytes as acquired.
    """
    hasher = hashlib.blake2b(digest_size=16)
    for field in (source.encode(), url.encode()):
        hasher.update(len(field).to_bytes(8, "little"))
        hasher.update(field)
    hasher.update(content)
    return hasher.hexdigest()


def hash_to_unit(*keys: str | int) -> float:
    """A number in [0, 1) that depends on the keys alone, evenly spread over distinct keys.

    Every draw about a document (sampling, splitting) is made from it, so that no draw depends on
    a rank, a clock or an order of arrival.
    """
    raw = hashlib.blake2b(canonical_json(list(keys)), digest_size=8).digest()
    return (int.from_bytes(raw, "big") >> 11) / (1 << 53)
