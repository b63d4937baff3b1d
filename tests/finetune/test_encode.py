"""Examples become rows of ids."""

import numpy as np
import pyarrow as pa

from infra.schemas.examples import EXAMPLES
from tasks.finetune.encode import Encoding, encode_examples
from tasks.finetune.head import make_head
from tests.finetune.tiny_runs import entry
from tests.lm.test_heads import EOS, text_encoder


def test_an_example_without_a_negative_has_its_positive_in_its_place() -> None:
    rows = [
        {"query": "q", "positive": "x", "negatives": ["y", "z", "w"]},
        {"query": "r", "positive": "v", "negatives": []},
    ]
    examples = pa.Table.from_pylist(rows, schema=pa.schema([*EXAMPLES["embedding"]]))
    encoder, width = text_encoder("bert"), 24
    for limit, read in ((2, ["y", "z"]), (8, ["y", "z", "w"]), (0, [])):
        head = make_head(entry("embedding", "x", max_negatives=limit), {}, examples, EOS)
        encoded = encode_examples(examples, Encoding("embedding", encoder, head, width, False, {}))
        texts = encoded.rows.reshape(2, -1, width)
        expected = ["q", "x", *read, "r", "v", *["v"] * len(read)]
        known = encoder.encode(expected, [None] * len(expected), width).rows
        np.testing.assert_array_equal(texts.reshape(-1, width), known)
