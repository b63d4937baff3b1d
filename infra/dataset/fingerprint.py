"""Digests of content, document ids, and the numbers in [0, 1) that sampling uses."""

import hashlib
import json
from typing import Any


def canonical_json(value: Any) -> bytes:
    """Serialize to JSON with sorted keys and no spaces: equal values give equal bytes.

    Raises:
        TypeError: if a value is not plain JSON.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def json_sha256(value: Any) -> str:
    """Return the SHA-256 of a JSON value, as 64 hexadecimal characters."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def bytes_sha256(data: bytes) -> str:
    """Return the SHA-256 of bytes, as 64 hexadecimal characters."""
    return hashlib.sha256(data).hexdigest()


def document_id(source: str, url: str, content: bytes) -> str:
    """Return a document's permanent id: 32 hexadecimal characters of BLAKE2b.

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
    """Map keys to a number in [0, 1) that depends on them alone, uniform over distinct keys.

    Every draw about a document (sampling, splitting) is made from it, so that no draw depends on
    a rank, a clock or the order in which documents arrive.
    """
    raw = hashlib.blake2b(canonical_json(list(keys)), digest_size=8).digest()
    return (int.from_bytes(raw, "big") >> 11) / (1 << 53)
