"""Sign the digests of a released folder with Ed25519, and check such a signature."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from infra.errors import UserError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

KEY_ENV = "GRISTMILL_SIGNING_KEY"
HOW_TO_MAKE = "openssl genpkey -algorithm ed25519 -out key.pem"
HOW_TO_SHARE = "openssl pkey -in key.pem -pubout -out key.pub.pem"


class SigningKeyError(UserError):
    """A key that is missing, cannot be read, or is of another kind."""


class Signer:
    """Holds a private key; it is never written anywhere."""

    def __init__(self, key: "Ed25519PrivateKey") -> None:
        self._key = key

    def sign(self, data: bytes) -> bytes:
        """Return the signature of data, 64 bytes."""
        return self._key.sign(data)

    @property
    def fingerprint(self) -> str:
        """Digest of the public key, by which a reader tells keys apart."""
        return key_fingerprint(self._key.public_key())


def load_signer(path: str | None) -> Signer | None:
    """Load the key that an operator names: a PEM file, or the variable ``GRISTMILL_SIGNING_KEY`` with its text.

    Returns:
        ``None`` if there is neither: the release is not signed.

    Raises:
        SigningKeyError: if it is no private Ed25519 key without a password.
    """
    where = path or KEY_ENV
    text = os.environ.get(KEY_ENV, "").encode() if path is None else _read(path)
    if not text:
        return None
    serialization, ed25519 = _cryptography()
    try:
        key = serialization.load_pem_private_key(text, password=None)
    except (ValueError, TypeError) as error:  # TypeError: it has a password
        raise SigningKeyError(
            f"{where}: not a private key in PEM without a password ({_one_line(error)}); make one with: {HOW_TO_MAKE}"
        ) from None
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise SigningKeyError(f"{where}: not an Ed25519 key; make one with: {HOW_TO_MAKE}")
    return Signer(key)


def load_public_key(path: str) -> "Ed25519PublicKey":
    """Load a public key from a PEM file. Raises ``SigningKeyError``."""
    serialization, ed25519 = _cryptography()
    try:
        key = serialization.load_pem_public_key(_read(path))
    except ValueError as error:
        raise SigningKeyError(
            f"{path}: not a public key in PEM ({_one_line(error)}); write it with: {HOW_TO_SHARE}"
        ) from None
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise SigningKeyError(f"{path}: not an Ed25519 key")
    return cast("Ed25519PublicKey", key)


def is_signature(key: "Ed25519PublicKey", signature: bytes, data: bytes) -> bool:
    """Whether a signature is that of this data, by the owner of the key."""
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(signature, data)
    except InvalidSignature:
        return False
    return True


def key_fingerprint(key: "Ed25519PublicKey") -> str:
    """Return the digest of a public key."""
    from infra.dataset.fingerprint import bytes_sha256

    return bytes_sha256(key.public_bytes_raw())


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise SigningKeyError(f"{path}: cannot be read ({error.strerror})") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:120]


def _cryptography() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise SigningKeyError(
            "signatures need the package cryptography; run pip install 'gristmill[sign]'"
        ) from None
    return serialization, ed25519
