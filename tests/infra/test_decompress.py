import gzip

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from infra.formats.decompress import GZIP, CorruptStreamError, decompress, detect_compression
from infra.formats.zstd_frames import ZSTD

DATA = b"".join(b"line %d of a file that is long enough\n" % n for n in range(20_000))
PACKED = {GZIP: gzip.compress(DATA, 6), ZSTD: zstandard.compress(DATA, 3)}


def blocks(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def unpacked(
    data: bytes, magic: bytes, size: int = 1 << 20
) -> tuple[bytes, CorruptStreamError | None]:
    """What comes out before the end or the damage, and the damage."""
    out = []
    try:
        for piece in decompress(iter(blocks(data, size)), magic):
            out.append(piece)  # noqa: PERF402 - what came before an error counts
    except CorruptStreamError as damage:
        return b"".join(out), damage
    return b"".join(out), None


@pytest.mark.parametrize("magic", [GZIP, ZSTD])
@pytest.mark.parametrize("size", [1, 1000, 1 << 20])
def test_streams_are_decompressed(magic: bytes, size: int) -> None:
    assert detect_compression(PACKED[magic]) == magic
    assert unpacked(PACKED[magic], magic, size) == (DATA, None)


@pytest.mark.parametrize("magic", [GZIP, ZSTD])
def test_several_members_follow_each_other(magic: bytes) -> None:
    assert unpacked(PACKED[magic] * 3, magic) == (DATA * 3, None)


def test_padding_after_gzip_members_is_ignored() -> None:
    assert unpacked(PACKED[GZIP] + b"\0" * 700, GZIP) == (DATA, None)


@pytest.mark.parametrize("magic", [GZIP, ZSTD])
@given(cut=st.integers(1, 40_000))
def test_truncation_is_detected_after_the_data_before_it(magic: bytes, cut: int) -> None:
    packed = PACKED[magic]
    cut %= len(packed)
    out, damage = unpacked(packed[:cut], magic)
    assert DATA.startswith(out)
    assert (damage is not None and damage.reason == "truncated_file") or cut == 0


@pytest.mark.parametrize("magic", [GZIP, ZSTD])
def test_damage_is_detected(magic: bytes) -> None:
    broken = bytearray(PACKED[magic])
    broken[len(broken) // 2] ^= 0xFF
    _, damage = unpacked(bytes(broken), magic)
    assert damage is not None
    _, damage = unpacked(PACKED[magic] + b"garbage", magic)
    assert damage is not None
    assert damage.reason == "corrupt_file"
