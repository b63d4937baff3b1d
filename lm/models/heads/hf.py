"""Export a fine-tuned model to transformers' class with the same head: its configuration and its weights."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from lm.models.heads.config import HeadConfig, parse, pooling
from lm.models.hf_auto import new_model
from lm.models.registry import load_hf

AUTO_CLASSES = {
    "classification": "AutoModelForSequenceClassification",
    "tagging": "AutoModelForTokenClassification",
    "qa": "AutoModelForQuestionAnswering",
    "embedding": "AutoModel",
}
# What a base's export has for language modeling alone.
LM_ONLY = ("lm_head.", "cls.", "decoder.")
OWN = ("pooler.", "classifier.")
CLASSIFIER_NAMES = ("classifier", "score", "qa_outputs")  # in transformers' classes


def to_hf_model(model_config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Any:
    """Return transformers' model of a fine-tuned one.

    Args:
        model_config: as ``describe`` made it, with a head.
        weights: as ``FineTuned.saved_weights`` returned them.
    """
    base, head = parse(model_config)
    assert head is not None
    hf = load_hf(base.architecture)
    hf_config = hf.to_hf_config(model_config, head.eos_id)
    hf_config.pad_token_id = head.eos_id
    if head.labels:
        hf_config.id2label = dict(enumerate(head.labels))
        hf_config.label2id = {label: number for number, label in enumerate(head.labels)}
        hf_config.problem_type = (
            "multi_label_classification" if head.multi_label else "single_label_classification"
        )
    if base.architecture == "modernbert":
        hf_config.classifier_pooling = "cls" if pooling("modernbert") == "first" else "mean"
    model = new_model(hf_config, AUTO_CLASSES[head.task])
    model.load_state_dict(_rename(model, hf, weights, model_config), strict=True)
    return model.eval()


def _rename(
    model: Any, hf: Any, weights: Mapping[str, Tensor], model_config: Mapping[str, Any]
) -> dict[str, Tensor]:
    """Return the weights under the names of transformers' class."""
    names, prefix = set(model.state_dict()), f"{model.base_model_prefix}."
    base = {name: weight for name, weight in weights.items() if not name.startswith(OWN)}
    renamed = {}
    for name, weight in hf.to_hf_weights(base, model_config).items():
        short = name if name in names else name.removeprefix(prefix)
        if short in names:
            renamed[short] = weight
        elif not name.startswith(LM_ONLY):
            raise KeyError(name)
    target = next((name for name in CLASSIFIER_NAMES if hasattr(model, name)), None)
    for name, weight in weights.items():
        if name.startswith("pooler."):
            renamed[name.replace("pooler.", "bert.pooler.dense.")] = weight
        elif name.startswith("classifier."):
            renamed[name.replace("classifier", str(target))] = weight
    for name in names - set(renamed):
        if "pooler.dense" in name:  # of BertModel; an embedding is a mean, and has none
            renamed[name] = torch.zeros_like(model.state_dict()[name])
    return renamed


@torch.no_grad()
def run_hf_model(model: Any, head: HeadConfig, tokens_bt: Tensor) -> Tensor:
    """Return what ``FineTuned.forward`` returns without targets, computed by transformers' model.

    Args:
        model: of ``to_hf_model``, or loaded from a released folder.
        head: the task.
        tokens_bt: ids; those below zero are padding on the right.
    """
    is_text = tokens_bt >= 0
    output = model(
        input_ids=torch.where(is_text, tokens_bt, head.eos_id), attention_mask=is_text.long()
    )
    if head.task == "qa":
        return torch.stack([output.start_logits, output.end_logits], -1)
    if head.task != "embedding":
        logits: Tensor = output.logits
        return logits
    mask = is_text.unsqueeze(-1).float()
    mean = (output.last_hidden_state * mask).sum(1) / mask.sum(1)
    return F.normalize(mean, dim=-1)
