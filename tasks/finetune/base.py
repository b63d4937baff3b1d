"""The base of a fine-tuned model: a model of `train`, or the folder of a released one."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from infra.dataset.dataset import Dataset
from infra.dataset.fingerprint import bytes_sha256, json_sha256
from infra.errors import UserError
from infra.store.environment import mask
from infra.store.external_files import expand_globs, read_url
from infra.store.storage import StorageError
from lm.models.registry import family_name, load_hf
from lm.models.released import CONFIG, TOKENIZER, WEIGHTS, parse_released_config
from tasks.finetune.entry import FinetuneEntry


@dataclass(frozen=True)
class Base:
    """What a variant takes of its base.

    Attributes:
        model_config: its sizes.
        tokenizer: ``tokenizer.json``.
        eos_id: the end of text.
        model: the data set with its weights; ``None`` if they are those of ``folder``.
        folder: URL of a released folder.
        weights_sha256: of the weights of ``folder``.
    """

    model_config: Mapping[str, Any]
    tokenizer: bytes
    eos_id: int
    model: Dataset | None = None
    folder: str | None = None
    weights_sha256: str | None = None

    @property
    def architecture(self) -> str:
        """The package of ``lm.models`` that holds it."""
        return str(self.model_config["architecture"])

    @property
    def family(self) -> str:
        """The family, as an entry of `train` names it."""
        return family_name(self.architecture)

    @property
    def ends_text(self) -> bool:
        """Whether it reads an end of text after a text, too (lm.objectives.text_rows)."""
        return self.family == "encoder"

    @property
    def is_encoder_decoder(self) -> bool:
        """Whether an encoder reads the source, and a decoder writes the target."""
        return self.family == "seq2seq"

    @property
    def key(self) -> str:
        """Digest of what a model with its sizes and tokenizer, but other weights, depends on."""
        return json_sha256([dict(self.model_config), self.tokenizer.decode()])

    @property
    def weights_key(self) -> str:
        """Digest of a released folder: of what a model that starts from it depends on."""
        assert self.weights_sha256 is not None
        return json_sha256([self.key, self.eos_id, self.weights_sha256])

    def write_weights(self, path: Path) -> None:
        """Write the weights of a released folder as a training run loads them.

        Raises:
            UserError: if the folder has changed since the run began.
        """
        from safetensors.torch import save_file

        from lm.models.released_weights import load_released_weights

        assert self.folder is not None
        content = read_url(_file(self.folder, WEIGHTS))
        where = str(mask(self.folder))
        if bytes_sha256(content) != self.weights_sha256:
            raise UserError(f"{where}: {WEIGHTS} has changed since the run began; start it again")
        weights = load_released_weights(content, self.model_config, where)
        save_file({name: weight.contiguous() for name, weight in weights.items()}, path)


def open_base(entry: FinetuneEntry, model: Dataset | None, tokens: Dataset | None) -> Base:
    """Return what is needed of the base of an entry before a run starts.

    Args:
        entry: names the base.
        model: the trained model; ``None`` if the base is a released folder.
        tokens: what that model was trained on.

    Raises:
        UserError: if a folder is no language model that Gristmill released, or cannot do the task.
    """
    if model is None:
        return open_released_base(entry)
    assert tokens is not None
    config = json.loads(model.read("config.json"))["model_config"]
    return Base(config, model.read("tokenizer.json"), int(tokens.stats["eos_id"]), model)


def open_released_base(entry: FinetuneEntry) -> Base:
    """Read the released folder that an entry names as its base; the weights for their digest alone.

    Raises:
        UserError: if it is no language model that Gristmill released, or cannot do the task.
    """
    folder = entry.base_folder
    assert folder is not None
    field, where = f"finetune.{entry.name}.base", str(mask(folder))
    try:
        config, tokenizer = (read_url(_file(folder, name)) for name in (CONFIG, TOKENIZER))
        weights = _file(folder, WEIGHTS)
        ((_, stamp),) = expand_globs([weights]).items()
        digest = _sha256(weights, stamp) if stamp else bytes_sha256(read_url(weights))
    except StorageError as error:
        raise UserError(f"{field}: {where!r} is no released model: {error}") from None
    released = parse_released_config(config, f"{field}: {where}")
    base = Base(
        released.model_config,
        remove_added_tokens(tokenizer, released.model_config),
        released.eos_id,
        folder=folder,
        weights_sha256=digest,
    )
    try:
        entry.check_sizes(where, base.family, int(base.model_config["context_length"]))
    except ValueError as error:
        raise UserError(str(error)) from None
    return base


def remove_added_tokens(tokenizer: bytes, model_config: Mapping[str, Any]) -> bytes:
    """Return a released ``tokenizer.json`` as the model was trained with it.

    The release adds tokens that only the model has, such as masks, and what puts tokens around a text. Marks of
    turns, which fine-tuning added, stay.
    """
    value, hf = json.loads(tokenizer), load_hf(str(model_config["architecture"]))
    special = hf.special_tokens(model_config) if hasattr(hf, "special_tokens") else {}
    value["added_tokens"] = [
        item for item in value["added_tokens"] if item["id"] not in special.values()
    ]
    if (value.get("post_processor") or {}).get("type") == "TemplateProcessing":
        value["post_processor"] = None
    return json.dumps(value, ensure_ascii=False).encode()


@lru_cache(maxsize=8)
def _sha256(url: str, stamp: str) -> str:  # noqa: ARG001 - a file with the same stamp is not read again
    return bytes_sha256(read_url(url))


def _file(folder: str, name: str) -> str:
    return f"{folder.rstrip('/')}/{name}"
