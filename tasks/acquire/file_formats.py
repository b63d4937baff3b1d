"""The formats that files of documents may have, by their first bytes."""

from collections.abc import Iterator

from infra.formats import decompress
from tasks.acquire import table_files

HEAD_BYTES = 512  # of a file or of what it unpacks to, in which its format is detected
_UNSUPPORTED_MAGIC = {
    b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x5d\x00\x00": "lzma", b"LZIP": "lzip", b"\x1f\x9d": "compress (.Z)",
    b"\x78\x01": "zlib", b"\x78\x5e": "zlib", b"\x78\x9c": "zlib", b"\x78\xda": "zlib",
    b"\x04\x22\x4d\x18": "lz4", b"\xff\x06\x00\x00sNaPpY": "snappy",
    b"PK\x03\x04": "zip", b"PK\x05\x06": "zip", b"7z\xbc\xaf\x27\x1c": "7-Zip", b"Rar!": "RAR",
    b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"%PDF": "PDF", b"SQLite f": "SQLite", b"FEA1": "Feather V1",
    b"Obj\x01": "Avro", b"\x89HDF": "HDF5",
    b"version https://git-lfs": "a pointer of Git LFS (run git lfs pull)",
}  # fmt: skip


def is_parquet(name: str, head: bytes) -> bool:
    """Whether a file is Parquet, by its name or its first bytes."""
    return head.startswith(table_files.PARQUET_MAGIC) or name.endswith(".parquet")


def is_arrow(name: str, head: bytes) -> bool:
    """Whether a file is an Arrow IPC file or stream, by its name or its first bytes."""
    magics = (table_files.ARROW_MAGIC, table_files.STREAM_MAGIC)
    return head.startswith(magics) or name.endswith((".arrow", ".feather"))


def find_unsupported(head: bytes) -> str | None:
    """The format that a file's first bytes show, if it is none that is read."""
    if head[257:262] == b"ustar":
        return "tar"
    return next((_UNSUPPORTED_MAGIC[m] for m in _UNSUPPORTED_MAGIC if head.startswith(m)), None)


def check_unpacked(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Pass on what a file unpacks to, unless that is no text.

    Raises:
        CorruptStreamError: if it is another format; also as `chunks` does.
    """
    head = b""
    try:
        while len(head) < HEAD_BYTES and (chunk := next(chunks, None)) is not None:
            head += chunk
    except decompress.CorruptStreamError:
        yield head
        raise
    is_table = is_parquet("", head) or is_arrow("", head)
    other = "Parquet or Arrow" if is_table else find_unsupported(head)
    if decompress.detect_compression(head):
        other = f"gzip or zstd, {decompress.MAX_LAYERS} times"
    if other:
        message = f"it unpacks to {other}, not JSON lines; unpack it"
        raise decompress.CorruptStreamError("unreadable_file", message)
    yield head
    yield from chunks
