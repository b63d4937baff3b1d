"""Token shards from sequences of ids, for tests and benchmarks."""

from typing import Any

import numpy as np

from infra.formats.megatron import Tokens, encode_index


class TokenShardWriter:
    """Collect the sequences of one shard."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        """An empty shard whose ids have this type."""
        self._dtype = dtype
        self._chunks: list[bytes] = []
        self._lengths: list[int] = []
        self.num_tokens = 0

    def __len__(self) -> int:
        return len(self._lengths)

    def add(self, ids: Tokens) -> tuple[int, int]:
        """Append a sequence.

        Args:
            ids: int[n], each within the shard's type.

        Returns:
            ``(index of the sequence, offset of its first token in the shard)``.
        """
        position = len(self._lengths), self.num_tokens
        self._chunks.append(ids.astype(self._dtype, copy=False).tobytes())
        self._lengths.append(len(ids))
        self.num_tokens += len(ids)
        return position

    def bin_bytes(self) -> bytes:
        """The ``.bin`` file."""
        return b"".join(self._chunks)

    def idx_bytes(self) -> bytes:
        """The ``.idx`` file."""
        return encode_index(self._lengths, self._dtype)
