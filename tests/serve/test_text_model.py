"""Vectors, masks and labels of released folders, as transformers' own models give them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from lm.models.embedding.files import Vocabulary, WordVectors
from lm.models.heads.hf import run_hf_model
from lm.models.hf_auto import load_model, load_with_tokenizer
from serve.engines.batched.loading import load_worker_model
from serve.engines.batched.text_model import TextTasks, WordVectorTasks
from serve.engines.interface import Vector
from serve.models import load_served_model
from tests.lm.corpora import tokenizer
from tests.lm.test_heads import head_config
from tests.release.test_heads import export_of, far_from_start
from tests.serve.released import EOS, Releases

TEXTS = [
    "The miller ground the corn.",
    "A crow",
    "Nobody counted seven stones. Le vieux roi never saw.",
]


def tasks(folder: Path) -> TextTasks:
    _, found, vocab_size = load_worker_model(folder, 1, 0)
    assert found is not None
    assert vocab_size > 0
    return found


def compute(own: TextTasks, task: str, texts: Sequence[Sequence[int]]) -> Vector:
    return np.concatenate(list(own.compute(task, texts)))


def finetuned(architecture: str, task: str, folder: Path, **head: object) -> Path:
    """Export a fine-tuned model with weights far from the start."""
    export_of(architecture, task, folder, **head)
    return folder


@pytest.mark.parametrize("name", ["llama", "lstm", "bert", "modernbert"])
def test_a_vector_is_the_mean_of_the_last_states(
    releases: Releases, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = releases(name)
    served, model = load_served_model(folder, name), load_model(folder)
    texts = [served.encode_text(text) for text in TEXTS]
    assert all(ids[0] == EOS for ids in texts)
    assert all((ids[-1] == EOS) == (name in ("bert", "modernbert")) for ids in texts)
    monkeypatch.setattr("serve.engines.batched.text_model.MAX_BATCH_TOKENS", 40)  # several batches
    found = compute(tasks(folder), "embed", texts)
    for ids, vector in zip(texts, found, strict=True):
        if name == "lstm":  # of a family's own modeling file, which returns no states
            hidden = model.layers(model.embed_tokens(torch.tensor([ids])))[0]
        else:
            hidden = model.base_model(torch.tensor([ids])).last_hidden_state
        mean = hidden[0].mean(0)
        np.testing.assert_allclose(vector, (mean / mean.norm()).detach(), atol=1e-5)


@pytest.mark.parametrize("name", ["bert", "modernbert"])
def test_masks_are_filled_as_transformers_fill_them(releases: Releases, name: str) -> None:
    folder = releases(name)
    served = load_served_model(folder, name)
    model, own = load_with_tokenizer(folder)
    text = f"The miller{own.mask_token} the corn{own.mask_token}"
    ids = served.encode_text(text)
    assert sum(id_ == served.mask_id for id_ in ids) == 2
    found = tasks(folder).fill_mask(ids, 5)
    with torch.no_grad():
        p = model(torch.tensor([ids])).logits[0].softmax(-1)
    for place, best in zip(
        [number for number, id_ in enumerate(ids) if id_ == served.mask_id], found, strict=True
    ):
        values, order = p[place].topk(5)
        assert [id_ for id_, _ in best] == order.tolist()
        assert [value for _, value in best] == pytest.approx(values.tolist(), abs=1e-5)


@pytest.mark.parametrize("multi_label", [False, True])
def test_texts_and_pairs_are_classified(multi_label: bool, tmp_path: Path) -> None:
    folder = finetuned("modernbert", "classification", tmp_path, multi_label=multi_label)
    served = load_served_model(folder, "x")
    assert (served.kind, served.multi_label) == ("classification", multi_label)
    assert served.labels == ("O", "B-x", "I-x")
    assert not served.generates
    texts = [served.encode_text("a crow"), served.encode_text("a crow", "the mill")]
    assert [ids.count(EOS) for ids in texts] == [2, 3]
    found = compute(tasks(folder), "classify", texts)
    model = load_model(folder)
    for ids, scores in zip(texts, found, strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0]
        expected = logits.sigmoid() if multi_label else logits.softmax(-1)
        np.testing.assert_allclose(scores, expected, atol=1e-5)


@pytest.mark.parametrize(("architecture", "task"), [("llama", "tagging"), ("bert", "embedding")])
def test_tokens_are_tagged_and_texts_have_vectors(
    architecture: str, task: str, tmp_path: Path
) -> None:
    model = far_from_start(architecture, head_config(task), vocab_size=300)
    folder = finetuned(architecture, task, tmp_path)
    served = load_served_model(folder, "x")
    assert served.kind == task
    ids = served.encode_text("the mill")
    found = compute(tasks(folder), "tag" if task == "tagging" else "embed", [ids])
    with torch.no_grad():
        expected = run_hf_model(load_model(folder), model.head, torch.tensor([ids]))
    if task == "tagging":
        assert found.shape == (len(ids), 3)
        expected = expected[0].softmax(-1)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_text_has_the_mean_of_its_words_vectors(tmp_path: Path) -> None:
    vectors = np.array([[1, 0], [0, 2]], np.float32)
    config = {"unit": "word", "lowercase": True}
    WordVectors(Vocabulary(["crow", "mill"], [2, 1]), vectors, config).save(tmp_path)
    (tmp_path / "tokenizer.json").write_text(tokenizer().to_str())
    served = load_served_model(tmp_path, "words")
    assert (served.kind, served.generates, served.embeds) == ("vectors", False, True)
    texts = [served.encode_text(text) for text in ("Crow, mill!", "a crow", "nobody")]
    found = compute(WordVectorTasks(tmp_path), "embed", texts)
    length = 5**0.5
    expected = np.array([[1 / length, 2 / length], [1, 0], [0, 0]], np.float32)
    np.testing.assert_allclose(found, expected, atol=1e-6)
