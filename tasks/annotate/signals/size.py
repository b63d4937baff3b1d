"""The size of a text in words, characters and bytes."""

import numpy as np

from tasks.annotate.signals.families import SignalColumns
from tasks.annotate.signals.text_block import TextBlock


def compute(texts: TextBlock) -> SignalColumns:
    """The family ``size`` of `infra.schemas.signals`."""
    return {
        "words": texts.token_counts["words"],
        "characters": texts.line_counts["characters"],
        "bytes": np.diff(texts.offsets),
    }
