"""What every model that is trained to restore text must do: encoders and encoder-decoders."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributed import destroy_process_group, init_process_group
from torch.distributed.tensor import DTensor

from infra.dataset.dataset import Dataset
from infra.store.storage import Storage
from lm.checkpoint import marker
from lm.config.train import TrainConfig
from lm.distributed.parallel import wrap_data_parallel
from lm.metrics.logger import read_jsonl
from lm.models.neural_lm import NeuralLM
from lm.models.registry import build_model
from lm.objectives.examples import Examples
from lm.train.job import TrainJob
from lm.train.loop import train
from tests.lm.corpora import tiny, token_shards
from tests.lm.group import run_in_processes

EOS = 7
KINDS: dict[str, dict[str, Any]] = {
    "bert": {"family": "encoder", "architecture": "bert"},
    "bert-sinusoidal": {"family": "encoder", "architecture": "bert", "positions": "sinusoidal"},
    "modernbert": {"family": "encoder", "architecture": "modernbert"},
    "t5": {"family": "seq2seq", "architecture": "t5"},
    "bahdanau": {"family": "seq2seq", "architecture": "gru", "num_heads": None},
}
SEQ2SEQ = ("t5", "bahdanau")
kinds = pytest.mark.parametrize("kind", KINDS)


def config(kind: str, **changes: Any) -> TrainConfig:
    sizes = {"num_kv_heads": None, "context_length": 24, "train_tokens": 10 * 8 * 24}
    return tiny(**{**sizes, **KINDS[kind], **changes})


def model(kind: str, vocab_size: int = 97, **changes: Any) -> NeuralLM:
    torch.manual_seed(1)
    return build_model(config(kind, **changes).model.resolve(vocab_size))


def examples(network: NeuralLM, rows: int, first: int = 0) -> Examples:
    """Examples of random text without an end of text."""
    length = network.config.context_length + 1
    drawn = np.random.default_rng(first).integers(8, 97, (rows, length))
    return network.objective(1, EOS)(drawn, np.arange(first, first + rows))


def loss(call: Any, batch: Examples, **options: Any) -> Tensor:
    total: Tensor = call(batch.inputs, batch.targets, **batch.extra_inputs(), **options)
    return total


@kinds
@pytest.mark.parametrize("tied", [True, False])
def test_an_untrained_model_knows_nothing(kind: str, tied: bool) -> None:
    if kind == "t5" and not tied:
        pytest.skip("T5's head is its embedding")
    untrained = model(kind, 5000, hidden_size=64, tie_embeddings=tied)
    batch = examples(untrained, 32)
    mean = loss(untrained, batch) / (batch.targets >= 0).sum()
    assert mean.item() == pytest.approx(math.log(5000), rel=0.01)


@kinds
def test_every_weight_learns(kind: str) -> None:
    network = model(kind)
    loss(network, examples(network, 16)).backward()
    for name, weight in network.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().sum() > 0, name


@kinds
def test_dropout_depends_on_the_sample_and_not_on_its_batch(kind: str) -> None:
    network = model(kind)
    network.dropout = 0.4
    batch, keys = examples(network, 3), torch.tensor([1, 2, 3])
    together = loss(network, batch, dropout_keys=keys)
    alone = [
        loss(network, part, dropout_keys=key)
        for part, key in zip(batch.split(1), keys.split(1), strict=True)
    ]
    torch.testing.assert_close(together, torch.stack(alone).sum())
    assert not torch.allclose(together, loss(network, batch))


@kinds
def test_what_is_made_again_is_what_was_kept(kind: str) -> None:
    gradients = []
    for recompute in (False, True):
        network = model(kind)
        network.activation_checkpointing, network.dropout = recompute, 0.2
        loss(network, examples(network, 3), dropout_keys=torch.tensor([1, 2, 3])).backward()
        gradients.append([weight.grad for weight in network.parameters()])
    for kept, again in zip(*gradients, strict=True):
        assert kept is not None
        assert again is not None
        assert torch.equal(kept, again)


@kinds
def test_one_batch_is_learnt_by_heart(kind: str) -> None:
    network = model(kind, num_layers=1, hidden_size=64)
    batch = examples(network, 4)
    assert learn(network, 200, lambda _: batch) < 0.1


def learn(network: NeuralLM, steps: int, batch: Any) -> float:
    """Train on ``batch(step)``; return the last loss per target."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.005, weight_decay=0.0)
    mean = torch.tensor(0.0)
    for step in range(steps):
        part = batch(step)
        mean = loss(network, part) / (part.targets >= 0).sum()
        optimizer.zero_grad()
        mean.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    return mean.item()


@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_documents_in_one_row_do_not_see_each_other(kind: str) -> None:
    """A row of three documents says of each what the document says alone."""
    network = model(kind)
    documents = [torch.tensor([1, 2, 3, EOS]), torch.tensor([4, EOS]), torch.tensor([5, 6, EOS])]
    row = torch.cat([*documents, torch.tensor([EOS, EOS])])  # two of padding
    together = network(torch.stack([row, row]), eos=EOS)
    alone = torch.cat([network(document[None])[0] for document in documents])
    for each in together:
        torch.testing.assert_close(each[: len(alone)], alone)
    assert not torch.allclose(network(row[None])[0, : len(alone)], alone)


@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_predictions_at_some_positions_are_those_at_all(kind: str) -> None:
    network = model(kind)
    tokens, positions = torch.randint(0, 97, (2, 24)), torch.tensor([[3, 0], [23, 5]])
    everywhere = network(tokens)
    for row in range(2):
        torch.testing.assert_close(
            network(tokens, positions=positions)[row], everywhere[row, positions[row]]
        )


# BERT normalizes after each block, and needs longer to leave the mean.
@pytest.mark.parametrize(("kind", "steps"), [("bert", 500), ("modernbert", 150)])
def test_a_deterministic_grammar_is_filled(kind: str, steps: int) -> None:
    """Each token follows from either neighbor: x_(t+1) = x_t + 3 mod 11; without them it is ln 11 = 2.4."""
    network = model(kind, 20)

    def sentences(step: int) -> Examples:
        starts = np.random.default_rng(step).integers(0, 11, (16, 1))
        rows = 8 + (starts + 3 * np.arange(25)) % 11
        return network.objective(1, EOS)(rows, np.arange(16 * step, 16 * step + 16))

    assert learn(network, steps, sentences) < 0.5


@pytest.mark.parametrize(("kind", "steps"), [("t5", 450), ("bahdanau", 100)])
@pytest.mark.parametrize("task", ["reverse", "translate"])
def test_a_sequence_is_reversed_and_a_text_translated(kind: str, steps: int, task: str) -> None:
    """Of 16 letters (ln 16 = 2.8); the dictionary maps each letter to another one."""
    network = model(kind, 30, hidden_size=64, num_layers=1)
    dictionary = np.random.default_rng(0).permutation(16)

    def pairs(step: int) -> Examples:
        letters = np.random.default_rng(step).integers(0, 16, (64, 4))
        target = torch.from_numpy(
            letters[:, ::-1].copy() if task == "reverse" else dictionary[letters]
        )
        inputs = torch.nn.functional.pad(target[:, :-1], (1, 0), value=20)
        count = torch.full((64,), 4)
        return Examples(inputs, target, count, source=torch.from_numpy(letters))

    assert learn(network, steps, pairs) < 0.7


@pytest.mark.parametrize("kind", SEQ2SEQ)
def test_padding_of_the_source_is_not_read(kind: str) -> None:
    network = model(kind)
    tokens, source = torch.randint(0, 97, (2, 5)), torch.randint(0, 97, (2, 9))
    padded = torch.nn.functional.pad(source, (0, 4), value=-1)
    torch.testing.assert_close(network(tokens, source=padded), network(tokens, source=source))
    changed = torch.cat([tokens[:, :3], (tokens[:, 3:] + 1) % 97], dim=1)
    before, after = network(tokens, source=source), network(changed, source=source)
    torch.testing.assert_close(before[:, :3], after[:, :3])  # nor what follows in the target


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    yield
    destroy_process_group()


@pytest.mark.usefixtures("process_group")
@kinds
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_a_data_parallel_model_computes_what_the_model_does(kind: str, parallel: str) -> None:
    entry, results = config(kind, data_parallel=parallel), []
    for is_wrapped in (False, True):
        network = model(kind)
        network.dropout = 0.2
        call = wrap_data_parallel(network, entry, torch.device("cpu")) if is_wrapped else network
        total = loss(call, examples(network, 3), eos=EOS, dropout_keys=torch.tensor([1, 2, 3]))
        total.backward()
        gradients = [weight.grad for weight in network.parameters()]
        whole = [g.full_tensor() if isinstance(g, DTensor) else g for g in gradients]
        results.append([total.detach(), *whole])
    for plain, wrapped in zip(*results, strict=True):
        torch.testing.assert_close(wrapped, plain)


TRAINED = ("modernbert", *SEQ2SEQ)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return token_shards(tmp_path_factory.mktemp("store"))


def run(kind: str, url: str, folder: Path, **changes: Any) -> dict[str, Tensor]:
    changed = {"packing": "best_fit_masked", "dropout": 0.1, **changes}
    if kind in SEQ2SEQ:
        changed["packing"] = "concatenate"
    weights, _ = train(TrainJob(config(kind, **changed), 1337, Storage(url), folder))
    return weights


def process(rank: int, url: str, folder: Path) -> None:
    torch.set_num_threads(1)
    init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    for kind in TRAINED:
        for parallel in ("ddp", "fsdp"):
            name = f"{kind}-{parallel}"
            run(kind, url, folder / name, num_processes=2, data_parallel=parallel)
    destroy_process_group()


def test_processes_learn_what_one_does_and_a_resumed_run_to_the_bit(
    tokens: Dataset, tmp_path: Path
) -> None:
    url = tokens.storage.url
    run_in_processes(process, (url, tmp_path), 2)
    for kind in TRAINED:
        expected, folder = run(kind, url, tmp_path / kind), tmp_path / kind
        alone = read_jsonl(folder / "metrics.jsonl")
        assert alone[-1]["loss"] < alone[0]["loss"] - 0.5
        for parallel in ("ddp", "fsdp"):
            both = read_jsonl(tmp_path / f"{kind}-{parallel}" / "metrics.jsonl")
            for field in ("loss", "validation_loss", "tokens", "rows_digest"):
                found = [line[field] for line in both if field in line]
                wanted = [line[field] for line in alone if field in line]
                assert found == pytest.approx(wanted, rel=1e-4), (kind, parallel, field)
        (folder / "checkpoints" / "step-000000010" / marker.MARKER).unlink()
        resumed = run(kind, url, folder)
        assert all(torch.equal(weight, resumed[name]) for name, weight in expected.items())
