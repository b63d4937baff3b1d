"""Heads of other tasks on every family: what padding changes, what is trained, what is learnt."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from infra.errors import UserError
from lm.models.heads.config import HeadConfig, describe, parse
from lm.models.heads.model import FineTuned, build_finetuned, load_base
from lm.models.neural_lm import NeuralLM
from lm.models.registry import build_model, parse_entry
from lm.objectives.classification import encode
from lm.objectives.text_rows import TextEncoder
from tests.lm.corpora import tokenizer
from tests.train_entry import in_steps

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {"family": "decoder", "model": {"num_heads": 4}},
    "gpt2": {"family": "decoder", "model": {"num_heads": 4, "architecture": "gpt2"}},
    "modernbert": {"family": "encoder", "model": {"num_heads": 4}},
    "bert": {"family": "encoder", "model": {"num_heads": 4, "architecture": "bert"}},
    "lstm": {"family": "lstm", "model": {}},
    "cnn": {"family": "cnn", "model": {}},
}
EOS = 0
MAX_STEPS = 500


def language_model(architecture: str, vocab_size: int = 97, **section: Any) -> NeuralLM:
    fields = ARCHITECTURES[architecture]
    sizes = {"num_layers": 2, "hidden_size": 32, "context_length": 24, **fields["model"], **section}
    entry = in_steps(
        parse_entry({"name": "x", "data": {"train_tokens": 1}, **fields, "model": sizes})
    )
    torch.manual_seed(1)
    return build_model(entry.model.resolve(vocab_size))


def head_config(task: Any, **changes: Any) -> HeadConfig:
    labels = ("O", "B-x", "I-x") if task in ("classification", "tagging") else ()
    return HeadConfig(**{"task": task, "eos_id": EOS, "labels": labels, **changes})


def finetuned(architecture: str, head: HeadConfig, **section: Any) -> FineTuned:
    base = language_model(architecture, **section)
    model = build_finetuned(base.config, head)
    load_base(model, base.state_dict())
    return model


CASES = [
    (architecture, task)
    for architecture in ARCHITECTURES
    for task in ("classification", "tagging", "qa", "embedding")
    if task != "qa" or architecture in ("bert", "modernbert")
]
cases = pytest.mark.parametrize(("architecture", "task"), CASES)


def padded_texts(lengths: tuple[int, ...] = (24, 10, 5)) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    texts = torch.randint(1, 97, (len(lengths), 24), generator=generator)
    texts[:, 0] = EOS
    for row, length in zip(texts, lengths, strict=True):
        row[length:] = -1
    return texts


@cases
def test_padding_changes_no_result(architecture: str, task: str) -> None:
    model, lengths = finetuned(architecture, head_config(task)), (24, 10, 5)
    texts = padded_texts(lengths)
    with torch.no_grad():
        together = model(texts)
        for row, length in enumerate(lengths):
            alone = model(texts[row : row + 1, :length])[0]
            own = together[row, :length] if together.dim() == 3 else together[row]
            torch.testing.assert_close(own, alone)


@cases
def test_every_weight_learns(architecture: str, task: str) -> None:
    model = finetuned(architecture, head_config(task))
    model.base.dropout = 0.1
    texts = padded_texts()
    inputs = torch.cat([texts, texts.flip(0)], 1) if task == "embedding" else texts
    targets = {
        "classification": torch.tensor([[0], [2], [1]]),
        "tagging": torch.where(texts >= 0, texts % 3, -1),
        "qa": torch.tensor([[1, 3], [0, 0], [2, 2]]),
        "embedding": torch.zeros(3, 1, dtype=torch.int64),
    }[task]
    model(inputs, targets, dropout_keys=torch.tensor([1, 2, 3])).backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().sum() > 0, name


@cases
def test_targets_below_zero_are_not_counted(architecture: str, task: str) -> None:
    model, texts = finetuned(architecture, head_config(task)), padded_texts()
    inputs = torch.cat([texts, texts], 1) if task == "embedding" else texts
    width = {"tagging": 24, "qa": 2}.get(task, 1)
    assert model(inputs, torch.full((3, width), -1)).item() == 0


@cases
def test_the_file_has_the_base_under_its_own_names(architecture: str, task: str) -> None:
    model = finetuned(architecture, head_config(task))
    weights, base = model.saved_weights(), language_model(architecture).state_dict()
    for name in weights:
        if not name.startswith(("pooler", "classifier")):
            assert torch.equal(weights[name], base[name]), name
    assert "head.weight" not in weights
    other = build_finetuned(model.config, model.head)
    other.load_saved(weights)
    with torch.no_grad():
        torch.testing.assert_close(other(padded_texts()), model(padded_texts()))


def test_a_head_is_described_and_parsed() -> None:
    head = head_config("classification", class_weights=(1.0, 2.0, 3.0))
    for architecture in ARCHITECTURES:
        base = language_model(architecture).config
        assert parse(describe(base, head)) == (base, head)
        assert parse(describe(base, None)) == (base, None)


@pytest.mark.parametrize(
    "fields",
    [
        {"labels": ("a",)},
        {"labels": ("a", "a")},
        {"labels": ("a", "b"), "class_weights": (1.0,)},
        {"labels": (), "multi_label": True},
    ],
)
def test_labels_that_make_no_sense_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        HeadConfig("classification", EOS, **fields)


@pytest.mark.parametrize("architecture", ["llama", "lstm", "cnn"])
def test_questions_need_a_base_that_reads_in_both_directions(architecture: str) -> None:
    with pytest.raises(UserError):
        finetuned(architecture, head_config("qa"))


def test_an_encoder_decoder_has_no_such_head() -> None:
    entry = in_steps(
        parse_entry(
            {
                "name": "x",
                "family": "seq2seq",
                "model": {"num_layers": 1, "hidden_size": 16, "num_heads": 2},
                "data": {"train_tokens": 1},
            }
        )
    )
    with pytest.raises(UserError):
        build_finetuned(entry.model.resolve(97), head_config("classification"))


def test_class_weights_and_label_smoothing_are_those_of_torch() -> None:
    weights, texts, targets = (1.0, 2.0, 0.5), padded_texts(), torch.tensor([[0], [1], [1]])
    model = finetuned("bert", head_config("classification", class_weights=weights))
    loss = torch.nn.CrossEntropyLoss(torch.tensor(weights), reduction="sum", label_smoothing=0.2)
    expected = loss(model(texts), targets[:, 0])
    torch.testing.assert_close(model(texts, targets, label_smoothing=0.2), expected)


def test_several_labels_are_independent_of_each_other() -> None:
    texts, targets = padded_texts(), torch.tensor([[0, 1, 1], [0, 0, 0], [1, 1, 1]])
    model = finetuned("bert", head_config("classification", multi_label=True))
    expected = torch.nn.BCEWithLogitsLoss(reduction="sum")(model(texts), targets.float())
    torch.testing.assert_close(model(texts, targets), expected)


def train(model: FineTuned, rows: Any, goal: float) -> float:
    """Train on rows, all at once, until the loss per target is below the goal; return it."""
    objective = model.objective(0, EOS)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.0)
    loss = torch.tensor(0.0)
    for _ in range(MAX_STEPS):
        examples = objective(rows, np.arange(len(rows)))
        loss = model(examples.inputs, examples.targets) / (examples.targets >= 0).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss < goal:
            break
    return loss.item()


def text_encoder(architecture: str) -> TextEncoder:
    data = tokenizer().to_str().encode()
    return TextEncoder(data, EOS, ends_text=architecture in ("bert", "modernbert"))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("multi_label", [False, True])
def test_texts_are_told_apart_by_a_word(architecture: str, multi_label: bool) -> None:
    texts = [f"the {word} {place}" for word in ("crow", "mill", "wind") for place in "abcd"]
    names = ("crow", "mill", "wind")
    labels = [[name for name in names if name in text] for text in texts]
    encoded = text_encoder(architecture).encode(texts, [None] * len(texts), 24)
    rows = encode(encoded, labels, names, multi_label=multi_label)
    head = head_config("classification", labels=names, multi_label=multi_label)
    model = finetuned(architecture, head, vocab_size=300)
    assert train(model, rows, 0.05) < 0.05
    logits = model(torch.from_numpy(encoded.rows))
    found = [names[number] for number in logits.argmax(1)]
    assert found == [label for (label,) in labels]


def test_a_text_is_read_between_ends_of_text() -> None:
    plain = tokenizer().encode("a crow").ids
    decoder, encoder = text_encoder("llama"), text_encoder("bert")
    assert encoder.encode(["a crow"], [None], 12).rows[0].tolist()[: len(plain) + 2] == [
        EOS,
        *plain,
        EOS,
    ]
    pair = decoder.encode(["a crow"], ["a crow"], 40)
    ids = [id_ for id_ in pair.rows[0].tolist() if id_ >= 0]
    assert ids == [EOS, *plain, EOS, *plain]
    cut = encoder.encode(["a crow " * 20, "a"], [None, None], 8)
    assert cut.is_truncated == [True, False]
    assert cut.rows[0, 0] == cut.rows[0, 7] == EOS


def test_text_that_reads_like_an_end_of_text_is_text() -> None:
    name = tokenizer().id_to_token(EOS)
    ids = text_encoder("bert").encode([f"a {name} b"], [None], 24).rows[0].tolist()
    assert ids.count(EOS) == 2
