"""Fine-tuned models as folders that transformers load."""

from pathlib import Path

import pytest
import torch

from lm.models.heads.config import HeadConfig, describe
from lm.models.heads.hf import run_hf_model, to_hf_model
from lm.models.heads.model import FineTuned
from lm.models.hf_auto import load_model
from tests.lm.test_heads import CASES, finetuned, head_config, padded_texts


def far_from_start(architecture: str, head: HeadConfig, **section: object) -> FineTuned:
    model = finetuned(architecture, head, **section)
    torch.manual_seed(4)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
    return model


@pytest.mark.parametrize(("architecture", "task"), CASES)
def test_the_export_says_what_the_training_model_says(
    architecture: str, task: str, tmp_path: Path
) -> None:
    model = far_from_start(architecture, head_config(task))
    exported = to_hf_model(describe(model.config, model.head), model.saved_weights())
    exported.save_pretrained(tmp_path)
    texts = padded_texts()
    with torch.no_grad():
        ours, theirs = model(texts), run_hf_model(load_model(tmp_path), model.head, texts)
    if ours.dim() == 3:
        ours, theirs = (each[texts >= 0] for each in (ours, theirs))
    torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=0)
