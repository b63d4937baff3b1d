"""Load a released model and its tokenizer."""

from functools import lru_cache
from pathlib import Path
from typing import Any

from lm.models.transformers_lock import TRANSFORMERS_LOCK

BATCH_SIZE = 32


@lru_cache(maxsize=1)
def load_for_task(folder: Path, auto_class: str) -> tuple[Any, Any]:
    """Return a model on the CPU, in fp32 and without dropout, and its tokenizer.

    Args:
        folder: of the release; its name holds the model's fingerprint.
        auto_class: the class of transformers that loads it.
    """
    with TRANSFORMERS_LOCK:
        import transformers

        options = {"local_files_only": True, "trust_remote_code": True}  # the modeling file is ours
        model = getattr(transformers, auto_class).from_pretrained(folder, **options)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **options)
    return model.eval(), tokenizer
