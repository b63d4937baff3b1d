"""Export a trained model as a Hugging Face folder, and check that it is the same model."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors.torch import load
from torch import Tensor

from infra.errors import UserError
from lm.models.hf_auto import load_model, new_model
from lm.models.registry import load_hf
from lm.models.released import MODEL_CONFIG_KEY

LOGIT_TOLERANCE = 1e-4  # maximum difference of a logit in fp32


class ParityError(UserError):
    """The exported model or tokenizer gives other results than the trained one."""


@dataclass(frozen=True)
class TrainedModel:
    """The files of a trained model.

    Attributes:
        model_config: the architecture, as in ``config.json``.
        weights: fp32 tensors by the training model's names.
        reference_logits: ``tokens`` int64[1, T], ``positions`` int64[n], ``logits`` float[n, V]; of an
            encoder-decoder also ``source`` int64[1, S].
        tokenizer: ``tokenizer.json``.
        eos: the id that ends documents.
    """

    model_config: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    reference_logits: Mapping[str, Tensor]
    tokenizer: bytes
    eos: int

    @property
    def hf(self) -> Any:
        """The module ``hf`` of its family; ``UserError`` if it has none."""
        package = self.model_config["architecture"]
        module = load_hf(package)
        if module is None:
            raise UserError(
                f"release: models of the package {package} cannot be exported: it has no module hf"
            )
        return module

    @staticmethod
    def from_files(files: Mapping[str, bytes], eos: int) -> "TrainedModel":
        """Parse the files of the data set, by name."""
        return TrainedModel(
            json.loads(files["config.json"])["model_config"],
            load(files["model.safetensors"]),
            load(files["reference_logits.safetensors"]),
            files["tokenizer.json"],
            eos,
        )


def export(trained: TrainedModel, folder: Path) -> float:
    """Write a folder that transformers' ``Auto`` classes load, and check it.

    Args:
        trained: the model.
        folder: empty or missing; receives ``config.json``, ``generation_config.json``,
            ``model.safetensors``, the tokenizer's files and, for a model that transformers do not
            have, its modeling file.

    Returns:
        The largest difference between a logit of the exported and of the trained model.

    Raises:
        ParityError: if it is above 1e-4, or the tokenizer encodes differently.
        UserError: if the family has no ``hf`` module.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()  # they would clutter the run's log

    hf = trained.hf
    hf_config = hf.to_hf_config(trained.model_config, trained.eos)
    model = new_model(hf_config, hf.KIND.auto_class)
    weights = hf.to_hf_weights(trained.weights, trained.model_config)
    model.load_state_dict(weights, strict=True)
    model.save_pretrained(folder)
    _add_names_for_other_readers(folder)
    add_model_config(folder, trained.model_config)
    added = added_tokens(trained)
    save_tokenizer(trained, folder, added)
    check_tokenizer(trained, folder, added)
    return check_logits(trained, folder)


def added_tokens(trained: TrainedModel) -> dict[str, int]:
    """Return the ids that the model has beyond the tokenizer's, ascending, by the names of their tokens."""
    hf = load_hf(trained.model_config["architecture"])
    own = hf.special_tokens(trained.model_config) if hasattr(hf, "special_tokens") else {}
    added = {**own, **trained.model_config.get("added_tokens", {})}
    # config.json has its keys sorted; the tokenizer numbers tokens in the order in which they are added.
    return dict(sorted(added.items(), key=lambda item: item[1]))


def read_hf_class(folder: Path) -> str:
    """Return the transformers class of an exported model, such as ``LlamaForCausalLM``."""
    return str(json.loads((folder / "config.json").read_text())["architectures"][0])


def _add_names_for_other_readers(folder: Path) -> None:
    """Add the names by which other programs than transformers 5 look up settings in ``config.json``."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    if "rope_theta" in config.get("rope_parameters", {}):
        config["rope_theta"] = config["rope_parameters"]["rope_theta"]  # transformers 4
    if "n_positions" in config:
        config["n_ctx"] = config["n_positions"]  # llama.cpp's converter of GPT-2
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def add_model_config(folder: Path, model_config: Mapping[str, Any]) -> None:
    """Add ``model_config`` to ``config.json``: fine-tuning starts from such a folder (``tasks.finetune.base``)."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config[MODEL_CONFIG_KEY] = dict(model_config)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def save_tokenizer(
    trained: TrainedModel,
    folder: Path,
    added: Mapping[str, int] = MappingProxyType({}),
    *,
    post_processor: Any = None,
    chat_template: str | None = None,
) -> None:
    """Save the tokenizer; the end of text is also BOS and padding, and is never added by itself.

    ``added`` are the ids that the model has beyond the tokenizer's, ascending, by the name of their
    special token: a mask, or sentinels. The tokenizer that was trained does not have them. With a
    ``post_processor``, of ``tokenizers``, it adds tokens around a text.

    Its class is ``PreTrainedTokenizerFast``, which transformers 4 and 5 know. By itself,
    transformers 5 writes ``TokenizersBackend``, which transformers 4 refuses.
    """
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    plain = Tokenizer.from_str(trained.tokenizer.decode())
    end = plain.id_to_token(trained.eos)
    spelling = spell(added, plain)
    plain.add_special_tokens(list(spelling.values()))
    if post_processor is not None:
        plain.post_processor = post_processor
    fast: Any = PreTrainedTokenizerFast(
        tokenizer_object=plain,
        bos_token=end,
        eos_token=end,
        pad_token=end,
        **{name: token for name, token in spelling.items() if name == "mask_token"},
        model_max_length=trained.model_config["context_length"],
        clean_up_tokenization_spaces=False,
        # transformers 4 would add token_type_ids, which `generate` of a decoder refuses.
        model_input_names=["input_ids", "attention_mask"],
        **({} if chat_template is None else {"chat_template": chat_template}),
    )
    fast.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    settings |= {"add_bos_token": False, "add_eos_token": False}  # llama.cpp's default may differ
    path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")


def spell(names: Iterable[str], tokenizer: Any) -> dict[str, str]:
    """Return how special tokens are written, by name: in a way that the tokenizer has not.

    ``mask_token`` is written ``<|mask|>``, as ends of text are, and others as T5 has its sentinels. Those
    of a fine-tuned model's ``added_tokens`` are written as they are named.
    """
    spelling = {}
    for name in names:
        if name.startswith("<"):
            spelling[name] = name
            continue
        token = (
            f"<{name}>" if name.startswith("extra_id_") else f"<|{name.removesuffix('_token')}|>"
        )
        while tokenizer.token_to_id(token) is not None:
            token = f"{token[0]}_{token[1:]}"
        spelling[name] = token
    return spelling


TOKENIZER_SAMPLES = (
    "It was the best of times,\n\n\tit was 1859.",
    "Ça va? Größe, 吾輩は猫である, мир, 🙂  two  spaces",
    'def f(x): return {"a": [x**2]}  # don\'t',
    "",
)


def check_tokenizer(
    trained: TrainedModel,
    folder: Path,
    added: Mapping[str, int] = MappingProxyType({}),
    *,
    post_processor: Any = None,
) -> None:
    """Raise ``ParityError`` unless the exported tokenizer gives the trained one's ids and text.

    The ``added`` special tokens have the ids that the model has for them. With a ``post_processor`` the
    trained one adds its tokens, too.
    """
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    plain = Tokenizer.from_str(trained.tokenizer.decode())
    if post_processor is not None:
        plain.post_processor = post_processor
    # It reads the model's configuration, too, whose class may be in the folder.
    exported: Any = AutoTokenizer.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    for text in TOKENIZER_SAMPLES:
        ids = plain.encode(text).ids
        # Not verbose: a text longer than the context is no problem here.
        encoded = exported.encode(text, verbose=False)
        decoded = exported.decode(ids, skip_special_tokens=True)
        if encoded != ids or decoded != plain.decode(ids, skip_special_tokens=True):
            raise ParityError(
                f"release: the exported tokenizer encodes or decodes {text!r} differently"
            )
    for name, token in spell(added, plain).items():
        token_id = exported.convert_tokens_to_ids(token)
        if token_id != added[name]:
            raise ParityError(
                f"release: the model has {token} as its id {added[name]}, but with this tokenizer it would "
                f"be {token_id}, because the tokenizer leaves ids out"
            )


@torch.no_grad()
def check_logits(trained: TrainedModel, folder: Path) -> float:
    """Return the largest difference of a logit; raise ``ParityError`` above the tolerance."""
    reference = trained.reference_logits
    inputs = {"input_ids": reference["tokens"]}
    if "source" in reference:
        inputs = {"input_ids": reference["source"], "decoder_input_ids": reference["tokens"]}
    logits = load_model(folder)(**inputs).logits[0, reference["positions"]]
    difference = float((logits - reference["logits"]).abs().max())
    if not difference <= LOGIT_TOLERANCE:
        raise ParityError(
            f"release: a logit of the exported model differs by {difference:.3g} from the trained "
            f"model's (tolerance {LOGIT_TOLERANCE:g}); nothing was released"
        )
    return difference
