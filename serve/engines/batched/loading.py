"""Load a released folder into the process of an engine: a scheduler if it generates, and what it says of texts."""

import json
from pathlib import Path

import torch

from infra.errors import UserError
from lm.models.cnn.model import GatedCNN
from lm.models.decoder.gpt2.model import GPT2
from lm.models.decoder.llama.model import Llama
from lm.models.encoder.model import Encoder
from lm.models.heads.config import parse
from lm.models.model_kind import COUNTS, VECTORS
from lm.models.neural_lm import HEAD, NeuralLM
from lm.models.recurrent.model import Recurrent
from lm.models.registry import build_model
from lm.models.released import CONFIG, MODEL_CONFIG_KEY, WEIGHTS, parse_released_config
from lm.models.released_weights import load_released_weights
from lm.models.seq2seq.gru.model import GRUSeq2Seq
from lm.models.seq2seq.model import Seq2Seq
from lm.models.seq2seq.t5.model import T5
from serve.engines.batched.families.bahdanau import GRUSeq2SeqSteps
from serve.engines.batched.families.cnn import CNNSteps
from serve.engines.batched.families.counts import NgramSteps
from serve.engines.batched.families.gpt2 import GPT2Steps
from serve.engines.batched.families.llama import LlamaSteps
from serve.engines.batched.families.recurrent import RecurrentSteps
from serve.engines.batched.families.t5 import T5Steps
from serve.engines.batched.prefix_cache import PrefixCache
from serve.engines.batched.scheduler import SPARE_ROWS, Scheduler
from serve.engines.batched.step_model import PrefixModel, StepModel
from serve.engines.batched.text_model import (
    TextTasks,
    WordVectorTasks,
    head_tasks,
    language_model_tasks,
)
from serve.models import load_served_model


def load_worker_model(
    folder: Path, slots: int, cache_bytes: int
) -> tuple[Scheduler | None, TextTasks | None, int]:
    """Load a released folder.

    Args:
        folder: of ``serve.models.load_served_model``.
        slots: sequences that are generated together.
        cache_bytes: of the prefix cache; 0: none.

    Returns:
        What generates, and what says something of texts, as far as the model has them; the number of ids.

    Raises:
        UserError: if its weights do not fit its configuration.
    """
    model = load_served_model(folder, folder.name)
    if model.kind == VECTORS.name:
        return None, WordVectorTasks(folder), model.tokenizer.get_vocab_size()
    rows = slots + SPARE_ROWS
    if model.kind == COUNTS.name:
        from lm.models.ngram.files import load_model

        counts = load_model(folder)
        return Scheduler(NgramSteps(counts, rows), slots, None), None, counts.vocab_size
    model_config = json.loads((folder / CONFIG).read_bytes()).get(MODEL_CONFIG_KEY)
    if model_config is None:
        raise UserError(
            f"{folder}: {CONFIG} has no {MODEL_CONFIG_KEY}: only models that Gristmill released are served"
        )
    base, head = parse(model_config)
    if head is not None:
        from transformers.utils import logging

        from lm.models.hf_auto import load_model as load_hf_model

        logging.disable_progress_bar()
        return None, head_tasks(load_hf_model(folder), head), base.vocab_size
    network = load_language_model(folder)
    if isinstance(network, Encoder):
        return None, language_model_tasks(network, model.mask_id), base.vocab_size
    if isinstance(network, Seq2Seq):
        steps = seq2seq_steps(network, rows, model.eos_id)
        return Scheduler(steps, slots, None), None, base.vocab_size
    causal = causal_steps(network, rows)
    prefixes = PrefixCache(causal, cache_bytes) if cache_bytes else None
    tasks = language_model_tasks(network, None)
    return Scheduler(causal, slots, prefixes), tasks, base.vocab_size


def load_language_model(folder: Path) -> NeuralLM:
    """Return the language model of a released folder, as it was trained.

    Raises:
        UserError: if its weights do not fit its configuration.
    """
    released = parse_released_config((folder / CONFIG).read_bytes(), str(folder))
    content = (folder / WEIGHTS).read_bytes()
    weights = load_released_weights(content, released.model_config, str(folder))
    base, _ = parse(released.model_config)
    with torch.device("meta"):
        network = build_model(base)
    if base.tie_embeddings:
        weights[HEAD] = weights["embed.weight"]
    network.load_state_dict(weights, assign=True)
    return network.eval().requires_grad_(requires_grad=False)


def causal_steps(network: NeuralLM, rows: int) -> PrefixModel:
    """Return the inference-only form of a model that continues text, with room for ``rows`` sequences."""
    weights = dict(network.state_dict())
    match network:
        case Llama():
            return LlamaSteps(network.config, weights, rows)
        case GPT2():
            return GPT2Steps(network.config, weights, rows)
        case Recurrent():
            return RecurrentSteps(network.config, weights, rows)
        case GatedCNN():
            return CNNSteps(network.config, weights, rows)
    raise UserError(f"models of the architecture {network.config.architecture} are not served")


def seq2seq_steps(network: Seq2Seq, rows: int, start_id: int) -> StepModel:
    """Return the inference-only form of an encoder-decoder, whose targets begin with ``start_id``."""
    match network:
        case T5():
            return T5Steps(network, rows, start_id)
        case GRUSeq2Seq():
            return GRUSeq2SeqSteps(network, rows, start_id)
    raise UserError(f"models of the architecture {network.config.architecture} are not served")
