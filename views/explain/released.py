"""Load a released model for explanations."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.errors import UserError
from infra.store.storage import Storage
from lm.interpret.released import ReleasedModel
from lm.models.hf_auto import load_with_tokenizer

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
FILES = ("config.json", "model.safetensors", *TOKENIZER_FILES)


@contextmanager
def open_released(folder: Storage) -> Iterator[ReleasedModel]:
    """Open the model of a released folder; a remote one is downloaded first.

    Raises:
        UserError: if the folder has no model that transformers load.
    """
    missing = [name for name in FILES if not folder.exists(name)]
    if missing:
        raise UserError(
            f"{folder.url} has no {missing[0]}: name the folder of a released model, or RECIPE:NAME for a model of "
            "the recipe's latest run. Models that are counted, and word vectors, cannot be explained"
        )
    local = folder.local_path()
    if local is not None:
        yield _load(local)
        return
    with tempfile.TemporaryDirectory(prefix="gristmill-explain-") as scratch:
        for name in FILES:
            folder.download(name, Path(scratch) / name)
        yield _load(Path(scratch))


def _load(folder: Path) -> ReleasedModel:
    from transformers.utils import logging

    logging.disable_progress_bar()
    hf_class = json.loads((folder / "config.json").read_bytes())["architectures"][0]
    model, tokenizer = load_with_tokenizer(folder)
    return ReleasedModel(model, tokenizer, str(hf_class))
