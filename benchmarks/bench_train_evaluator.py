"""Compare Gristmill's evaluator and lm-evaluation-harness on one exported model.

    python -m benchmarks.bench_train_evaluator

A small decoder is trained on the tests' own language for each architecture, exported as ``release`` does,
and both score the same texts and the same continuations in fp32. Exits with 1 if a log-likelihood
differs by more than 1e-4 nats or a continuation is greedy for one of them only.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from benchmarks.train_peers import SCRIPTS, NotMeasured, peer_interpreter, run_json
from infra.dataset.dataset import Dataset
from infra.formats.megatron import Tokens
from lm.models.neural_lm import save_weights
from lm.models.registry import build_model
from lm.scoring.huggingface import HuggingFaceModel
from lm.train.job import TrainJob
from lm.train.loop import train
from lm.train.pretraining import save_reference_logits
from tasks.release.export import TrainedModel, export
from tests.lm.corpora import texts, tiny, token_shards

LM_EVAL = ("lm-eval==0.4.13", "accelerate==1.15.0")
TOLERANCE = 1e-4  # nats
STEPS, TEXTS = 60, 40


def export_model(tokens: Dataset, architecture: str, folder: Path) -> Path:
    """Train a model; return its Hugging Face folder."""
    settings = {
        "architecture": architecture,
        "num_kv_heads": None,
        "train_tokens": STEPS * 8 * 128,
        "context_length": 128,
    }
    config = tiny(**settings, bias=True if architecture == "gpt2" else None)
    weights, _ = train(TrainJob(config, 1337, tokens.storage, folder / "run"))
    model = build_model(config.model.resolve(300))
    model.load_state_dict(weights)
    save_weights(model, folder / "model.safetensors")
    save_reference_logits(model, folder / "reference_logits.safetensors")
    files = {
        name: (folder / name).read_bytes()
        for name in ("model.safetensors", "reference_logits.safetensors")
    }
    files["config.json"] = json.dumps({"model_config": vars(model.config)}).encode()
    files["tokenizer.json"] = tokens.read("tokenizer.json")
    export(TrainedModel.from_files(files, 0), folder / "hf")
    return folder / "hf"


def compare(folder: Path, tokenizer: Tokenizer) -> bool:
    """Print how far both agree; return whether that is enough."""

    def ids(text: str) -> Tokens:
        return np.array(tokenizer.encode(text).ids, np.uint16)

    given: dict[str, Any] = {
        # As long as the context: beyond it, the two arrange their windows differently.
        "texts": [text[:80] for text in texts(TEXTS)],
        # lm-eval moves spaces at a prompt's end to the continuation; here they stand there already.
        "pairs": [((p := text[:40].rstrip()), text[len(p) : 80]) for text in texts(TEXTS)],
    }
    requests = folder.with_name("requests.json")
    requests.write_text(json.dumps(given))
    python = peer_interpreter(LM_EVAL)
    script = SCRIPTS / "evaluate_lm_eval.py"
    theirs: dict[str, Any] = run_json([str(python), str(script), str(folder), str(requests)], 1)
    ours = HuggingFaceModel(folder, 0)
    scored = [-float(nats.sum()) for nats in ours.score_texts([ids(t) for t in given["texts"]])]
    # As lm-eval's `_encode_pair`: the prompt by itself, then what the two together have behind it.
    pairs = []
    for text, continuation in given["pairs"]:
        prompt = ids(text)
        pairs.append((prompt, ids(text + continuation)[len(prompt) :]))
    continued = ours.score_continuations(pairs)
    by_text = max(abs(a - b) for a, b in zip(scored, theirs["texts"], strict=True))
    by_pair = max(abs(-c.nats - v) for c, (v, _) in zip(continued, theirs["pairs"], strict=True))
    greedy = sum(c.is_greedy == g for c, (_, g) in zip(continued, theirs["pairs"], strict=True))
    print(
        f"lm-eval {theirs['version']}: {len(scored)} texts differ by at most {by_text:.1e} nats, "
        f"{len(pairs)} continuations by {by_pair:.1e}; greedy alike in {greedy}"
    )
    return bool(max(by_text, by_pair) <= TOLERANCE and greedy == len(pairs))


def main() -> None:
    """Print a line for each architecture."""
    results = []
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        tokens = token_shards(root / "store")
        tokenizer = Tokenizer.from_str(tokens.read("tokenizer.json").decode())
        for architecture in ("llama", "gpt2"):
            folder = root / architecture
            folder.mkdir()
            print(f"{architecture:8}", end="", flush=True)
            try:
                results.append(compare(export_model(tokens, architecture, folder), tokenizer))
            except NotMeasured as reason:
                sys.exit(f"error: {reason}")
    sys.exit(not all(results))


if __name__ == "__main__":
    main()
