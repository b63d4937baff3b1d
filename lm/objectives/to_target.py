"""Write a target from a source: translation and summarization.

An encoder-decoder reads ``source <end>`` and writes ``target <end>``, its first input an end of text, as in
pre-training. A row is ``[source | target]``, each padded on the right. A decoder reads and writes
``<end> source <end> target <end>``, of which the target and the last end are counted
(``lm.objectives.counted_tokens``).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lm.objectives.counted_tokens import Counted, CountedRows, counted_rows
from lm.objectives.examples import Examples, Rows
from lm.objectives.text_rows import PADDING, TextEncoder, pad_rows, trim


@dataclass(frozen=True)
class ToTarget:
    """The encoder reads the source, the decoder predicts the target.

    Attributes:
        eos_id: the end of text, which is also what the decoder reads first.
        source_length: maximum tokens of a source; the columns after them are the target's.
    """

    eos_id: int
    source_length: int

    def __call__(self, rows: Rows, samples: Rows) -> Examples:  # noqa: ARG002 - nothing is drawn
        """See ``Objective``; the layout of rows is the module's."""
        source, targets = trim(rows[:, : self.source_length]), trim(rows[:, self.source_length :])
        inputs = np.pad(targets[:, :-1], ((0, 0), (1, 0)), constant_values=self.eos_id)
        inputs = np.where(inputs == PADDING, self.eos_id, inputs)
        return Examples(
            torch.from_numpy(inputs),
            torch.from_numpy(np.ascontiguousarray(targets)),
            torch.from_numpy((source >= 0).sum(1) + (targets >= 0).sum(1)),
            source=torch.from_numpy(np.ascontiguousarray(source)),
        )


@dataclass(frozen=True)
class EncodedPairs:
    """Sources and targets as rows.

    Attributes:
        rows: int64[n, source_length + target_length].
        is_truncated: for each pair, whether the source was cut.
        is_over_long: for each pair, whether the target does not fit: it should not be trained on.
    """

    rows: Rows
    is_truncated: list[bool]
    is_over_long: list[bool]


def encode(
    encoder: TextEncoder,
    sources: Sequence[str],
    targets: Sequence[str],
    source_length: int,
    target_length: int,
) -> EncodedPairs:
    """Return the rows of pairs for an encoder-decoder; the end of longer texts is cut."""
    source_ids = [[token for token, _ in encoder.encode_plain(text)] for text in sources]
    target_ids = [[token for token, _ in encoder.encode_plain(text)] for text in targets]
    end = encoder.eos_id
    left = [[*ids[: source_length - 1], end] for ids in source_ids]
    right = [[*ids[: target_length - 1], end] for ids in target_ids]
    return EncodedPairs(
        np.hstack([pad_rows(left, source_length), pad_rows(right, target_length)]),
        [len(ids) >= source_length for ids in source_ids],
        [len(ids) >= target_length for ids in target_ids],
    )


def encode_for_decoder(
    encoder: TextEncoder, sources: Sequence[str], targets: Sequence[str], max_length: int
) -> CountedRows:
    """Return the rows of pairs for a decoder, as ``lm.objectives.counted_tokens`` has them."""
    end = encoder.eos_id
    items = []
    for source, target in zip(sources, targets, strict=True):
        read = [end, *(token for token, _ in encoder.encode_plain(source)), end]
        written = [*(token for token, _ in encoder.encode_plain(target)), end]
        items.append(Counted([*read, *written], [False] * len(read) + [True] * len(written)))
    return counted_rows(items, max_length)
