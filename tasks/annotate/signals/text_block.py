"""Documents as the families of signals see them: UTF-8, with tokens and line counts made once."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from infra.compute.arrays import F64, I64
from infra.formats.arrow_text import Bytes, Offsets, utf8_buffers
from tasks.annotate.signals.lines import count_lines
from tasks.annotate.signals.tokens import Tokens, count_tokens, tokenize_documents

# A block and its tokens (about three times as many bytes) stay in the processor's cache while one
# family after the other reads them.
BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class TextBlock:
    """Some consecutive documents of a column.

    Attributes:
        offsets: int64[n + 1]; document i is ``data[offsets[i]:offsets[i + 1]]``.
        data: valid UTF-8.
    """

    offsets: Offsets
    data: Bytes

    @cached_property
    def tokens(self) -> Tokens:
        """The tokens of the documents."""
        return tokenize_documents(self.offsets, self.data)

    @cached_property
    def token_counts(self) -> npt.NDArray[np.void]:
        """`tasks.annotate.signals.tokens.TOKEN_COUNTS`[n]."""
        return count_tokens(self.tokens)

    @cached_property
    def line_counts(self) -> npt.NDArray[np.void]:
        """`tasks.annotate.signals.lines.LINE_COUNTS`[n]."""
        return count_lines(self.offsets, self.data)


def iter_blocks(text: "pa.Array[Any] | pa.ChunkedArray[Any]") -> Iterator[TextBlock]:
    """Split a column of n texts into blocks of about `BLOCK_BYTES`, each of at least one text.

    A column without rows gives one block without documents.
    """
    offsets, data = utf8_buffers(text)
    last = offsets.size - 1
    start = 0
    while True:
        end = int(np.searchsorted(offsets, offsets[start] + BLOCK_BYTES, side="right")) - 1
        end = min(max(end, start + 1), last)
        yield TextBlock(offsets[start : end + 1], data)
        start = end
        if start >= last:
            return


def safe_divide(numerator: I64, denominator: I64) -> F64:
    """The element-wise quotient, 0 where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.zeros(numerator.size), where=denominator != 0)
