"""Passwords and certificates of a stack, made once and readable by their owner only."""

import ipaddress
import os
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path

NAMES = ("prefect", "s3", "s3_signing", "postgres", "redis")
VALID_FOR = timedelta(days=3650)  # they never leave this machine


def write_secrets(folder: Path) -> None:
    """Write a random password into each file that is missing."""
    for name in NAMES:
        # token_hex: letters and digits need no quoting in a URL, a configuration file or a shell.
        write_private(folder / name, secrets.token_hex(24).encode())


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, whole or not at all; keep an existing one."""
    if path.exists():
        return
    temporary = path.with_suffix(".tmp")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        out.write(content)
    temporary.rename(path)


def write_certificates(folder: Path, address: str) -> None:
    """Write a certificate authority and a certificate that it has signed, for TLS on both ends.

    Whoever holds the certificate may connect. The authority's key is not kept: it signs nothing else.
    """
    if (folder / "cert.pem").exists():
        return
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    start = datetime.now(UTC) - timedelta(minutes=5)
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    base = (
        x509.CertificateBuilder()
        .issuer_name(name("gristmill stack authority"))
        .not_valid_before(start)
        .not_valid_after(start + VALID_FOR)
    )
    authority = (
        base.subject_name(name("gristmill stack authority"))
        .public_key(authority_key.public_key())
        .serial_number(x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    certificate = (
        base.subject_name(name("gristmill stack"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]),
            critical=False,
        )
        .sign(authority_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    for path in folder.iterdir():  # of a start that was interrupted
        path.unlink()
    write_private(folder / "ca.pem", authority.public_bytes(pem))
    write_private(
        folder / "key.pem",
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )
    write_private(folder / "cert.pem", certificate.public_bytes(pem))
