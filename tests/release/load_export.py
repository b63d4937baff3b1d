"""Load exports in the environment of this interpreter; print what each gives as one line of JSON.

``python load_export.py TEXTS FOLDER...``: ``reference_logits.safetensors`` is beside each folder. One process
for all, because importing transformers takes most of its time.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file


def main(folder: Path, texts: list[str]) -> dict[str, Any]:
    """Return token ids, texts, and the largest difference of a logit."""
    trust = {"trust_remote_code": True} if any(folder.glob("modeling_*.py")) else {}
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **trust)
    reference = load_file(folder.parent / "reference_logits.safetensors")
    auto: Any = transformers.AutoModelForCausalLM
    inputs = {"input_ids": reference["tokens"]}
    if "source" in reference:
        auto = transformers.AutoModelForSeq2SeqLM
        inputs = {"input_ids": reference["source"], "decoder_input_ids": reference["tokens"]}
    model = auto.from_pretrained(folder, **trust).eval()
    with torch.no_grad():
        logits = model(**inputs).logits[0, reference["positions"]]
    ids = [tokenizer.encode(text) for text in texts]
    prompt = tokenizer(tokenizer.bos_token + texts[0][:4], return_tensors="pt")
    return {
        "version": transformers.__version__,
        "difference": float((logits - reference["logits"]).abs().max()),
        "ids": ids,
        "texts": [tokenizer.decode(each) for each in ids],
        "special": [tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id],
        "context": [tokenizer.model_max_length, model.config.max_position_embeddings],
        "generated": len(model.generate(**prompt, max_new_tokens=2, do_sample=False)[0]),
    }


if __name__ == "__main__":
    answers = [main(Path(folder), json.loads(sys.argv[1])) for folder in sys.argv[2:]]
    print(json.dumps(answers))  # noqa: T201
