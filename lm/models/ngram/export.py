"""Export a model: an ARPA file, which other programs read, beside its own files and the tokenizer."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infra.dataset.dataset import Dataset
from lm.models.model_kind import COUNTS
from lm.models.ngram.arpa import write_arpa
from lm.models.ngram.files import CONFIG_FILE, MODEL_FILE, load_model

ARPA_FILE = "model.arpa"
FORMAT = "ARPA"
KIND = COUNTS
USAGE = """\
`model.arpa` is read by KenLM and others. Its words are token ids as decimal numbers, `<s>` and `</s>` are the beginning and the end
of a document:

```python
import kenlm
from tokenizers import Tokenizer

tokenizer, model = Tokenizer.from_file("tokenizer.json"), kenlm.Model("model.arpa")
ids = tokenizer.encode("Once upon a time").ids
print(model.score(" ".join(map(str, ids)), bos=True, eos=False))  # log10 of the probability
```

`model.safetensors` holds the same model as the arrays of a trie, which Gristmill reads (`lm/models/ngram/`)."""


def export(model: Dataset, folder: Path) -> None:
    """Write the model's files and ``model.arpa`` into an empty folder."""
    for name in (CONFIG_FILE, MODEL_FILE, "tokenizer.json"):
        (folder / name).write_bytes(model.read(name))
    with (folder / ARPA_FILE).open("wb") as file:
        write_arpa(load_model(folder), file)


def describe(stats: Mapping[str, Any]) -> str:
    """Return the sentence of a model card that says what the model is."""
    return (
        f"An n-gram language model of order {stats['order']} with {stats['parameters']:,} n-grams "
        f"(vocabulary {stats['vocab_size']:,}) and interpolated modified Kneser-Ney smoothing, counted by "
        f"Gristmill from {stats['tokens']:,} tokens."
    )


def list_sizes(stats: Mapping[str, Any]) -> tuple[tuple[str, str], list[tuple[str, str]]]:
    """Return the head and the rows of a model card's table of sizes."""
    return ("order", "n-grams"), [
        (str(k), f"{size:,}") for k, size in enumerate(stats["ngrams"], 1)
    ]
