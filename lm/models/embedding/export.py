"""Export word vectors: word2vec's text format beside the model's own files and the tokenizer."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infra.dataset.dataset import Dataset
from lm.models.embedding.files import CONFIG_FILE, MODEL_FILE, VOCABULARY_FILE, WordVectors
from lm.models.model_kind import VECTORS

TEXT_FILE = "vectors.txt"
FORMAT = "word2vec text"
KIND = VECTORS
USAGE = """\
`vectors.txt` has word2vec's text format, which gensim, fastText, spaCy and others read:

```python
from gensim.models import KeyedVectors

vectors = KeyedVectors.load_word2vec_format("vectors.txt")
print(vectors.most_similar("water"))
```

A word of several tokens has none of its own with `unit: token`; there, a space that a token begins with is written `▁`.

`model.safetensors` holds the same vectors as an array, and loads faster; `vocabulary.json` holds their words in its order:

```python
import json
from gensim.models import KeyedVectors
from safetensors.numpy import load_file

words = json.load(open("vocabulary.json", encoding="utf-8"))["words"]
array = load_file("model.safetensors")["vectors"]
vectors = KeyedVectors(array.shape[1])
vectors.add_vectors(words, array)
```"""


def export(model: Dataset, folder: Path) -> None:
    """Write the model's files and ``vectors.txt`` into an empty folder."""
    for name in (CONFIG_FILE, MODEL_FILE, VOCABULARY_FILE, "tokenizer.json"):
        (folder / name).write_bytes(model.read(name))
    with (folder / TEXT_FILE).open("wb") as file:
        WordVectors.load(folder).write_text(file)


def describe(stats: Mapping[str, Any]) -> str:
    """Return the sentence of a model card that says what the model is."""
    return (
        f"Vectors of {stats['vocab_size']:,} words with {stats['vector_size']} values each, trained by Gristmill "
        f"on {stats['words']:,} words of text. They give no probability to a text."
    )


def list_sizes(stats: Mapping[str, Any]) -> tuple[tuple[str, str], list[tuple[str, str]]]:
    """Return the head and the rows of a model card's table of sizes."""
    names = {"vocab_size": "words with a vector", "words": "words of text", "parameters": "values"}
    return ("what", "number"), [(text, f"{stats[name]:,}") for name, text in names.items()]
