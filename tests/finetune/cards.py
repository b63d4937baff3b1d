"""What the card of a release says that a reader should run, and what the model itself would say."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from infra.dataset.dataset import Dataset
from lm.models.heads.config import parse
from lm.models.neural_lm import WEIGHTS, NeuralLM, load_weights
from lm.models.registry import build_model
from lm.objectives import chat
from lm.objectives.text_rows import TextEncoder


def run_card(replacements: Mapping[str, str]) -> dict[str, Any]:
    """Run the code of the card in this folder; return its variables and what it prints, as ``printed``."""
    card = Path("README.md").read_text(encoding="utf-8")
    found = re.search(r"```python\n(.*?)```", card, re.DOTALL)
    assert found
    code = found[1]
    for old, new in replacements.items():
        assert old in code
        code = code.replace(old, new)
    variables: dict[str, Any] = {"printed": []}
    variables["print"] = variables["printed"].append
    exec(compile(code, "README.md", "exec"), variables)
    return variables


@torch.no_grad()
def answer_greedily(model: Dataset, question: Mapping[str, str], max_new_tokens: int) -> str:
    """Return what a fine-tuned model, not its export, answers to one message."""
    described = json.loads(model.read("config.json"))["model_config"]
    base, _ = parse(described)
    trained: Any = build_model(base)
    assert isinstance(trained, NeuralLM)
    load_weights(trained, model.read(WEIGHTS))
    encoder = TextEncoder(model.read("tokenizer.json"), int(model.stats["eos_id"]), ends_text=False)
    added, message = described["added_tokens"], chat.Message(question["role"], question["content"])
    (row,) = chat.encode(encoder, [[message]], added, 64).rows
    ids = [token for token in row[:64].tolist() if token >= 0]
    ids += [added[chat.TURN_START], *(token for token, _ in encoder.encode_plain("assistant\n"))]
    start = len(ids)
    while len(ids) - start < max_new_tokens:
        token = int(trained.eval()(torch.tensor([ids]))[0, -1].argmax())
        if token == added[chat.TURN_END]:
            break
        ids.append(token)
    text: str = encoder.tokenizer.decode(ids[start:])
    return text
