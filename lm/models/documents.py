"""Read rows of several documents so that a model's state starts anew with each document."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Documents:
    """The documents of rows [B, T], as rows [S, L] of their own.

    For models that read from left to right and start from a fixed state, a document in a row of its
    own is exactly a document that nothing before it influences.

    Attributes:
        document: int64[B, T], the document of each position.
        position: int64[B, T], its position in the document.
        shape: (S, L), the number of documents and the length of the longest.
    """

    document: Tensor
    position: Tensor
    shape: tuple[int, int]

    @classmethod
    def find(cls, tokens_bt: Tensor, eos: int) -> Self:
        """Return the documents of rows of tokens: each position that holds ``eos`` starts one."""
        is_start_bt = tokens_bt == eos
        is_start_bt[:, 0] = True
        document_n = is_start_bt.flatten().cumsum(0) - 1
        start_s = is_start_bt.flatten().nonzero().squeeze(1)
        position_n = torch.arange(len(document_n), device=tokens_bt.device) - start_s[document_n]
        shape = len(start_s), int(position_n.max()) + 1
        return cls(document_n.view_as(tokens_bt), position_n.view_as(tokens_bt), shape)

    def split(self, x_btd: Tensor) -> Tensor:
        """Return a row per document, float[S, L, D]: after its last position it holds zeros."""
        rows = x_btd.new_zeros(*self.shape, x_btd.shape[-1])
        return rows.index_put((self.document, self.position), x_btd)

    def join(self, x_sld: Tensor) -> Tensor:
        """Return the rows of which ``split`` made documents, float[B, T, D]."""
        return x_sld[self.document, self.position]
