import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, load_file, save

from infra.dataset.dataset import Dataset
from infra.dataset.stage import Context, DatasetSpec, Stage, commit_files
from infra.errors import UserError
from lm.launch.preflight import training_errors
from lm.models.decoder.model import Decoder
from lm.models.neural_lm import NeuralLM, save_weights
from lm.models.registry import build_model
from lm.train.pretraining import save_reference_logits
from tasks.release import task
from tasks.release.export import ParityError, TrainedModel, check_logits, export
from tasks.release.model_card import find_llama_cpp_pre_tokenizer
from tests.lm.corpora import context, texts, tiny, token_shards, tokenizer

TRAIN = Stage("train", ("tests.release.test_release",))


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return token_shards(tmp_path_factory.mktemp("store"))


def decoder(**changes: Any) -> Decoder:
    torch.manual_seed(3)
    model = build_model(tiny(**changes).model.resolve(300))
    assert isinstance(model, Decoder)
    with torch.no_grad():
        for weight in model.parameters():  # far from the beginning, where all logits are near 0
            weight.add_(torch.randn_like(weight) * 0.2)
    return model


def described(model: NeuralLM) -> bytes:
    shape = {**vars(model.config)}
    return json.dumps(
        {"model_config": shape, "training": {"optim": {"lr": 0.01}, "model": {"num_layers": 2}}}
    ).encode()


def trained_files(model: NeuralLM, folder: Path, tokens: Dataset) -> dict[str, bytes]:
    save_weights(model, folder / "model.safetensors")
    save_reference_logits(model, folder / "reference_logits.safetensors")
    return {
        "config.json": described(model),
        "tokenizer.json": tokens.read("tokenizer.json"),
        **{
            name: (folder / name).read_bytes()
            for name in ("model.safetensors", "reference_logits.safetensors")
        },
    }


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tie_embeddings": False, "num_kv_heads": 1},
        {"num_kv_heads": 4},
        {"architecture": "gpt2", "num_kv_heads": None, "bias": True},
        {"architecture": "gpt2", "num_kv_heads": None, "tie_embeddings": False},
        {"architecture": "gpt2", "num_kv_heads": None, "positions": "sinusoidal"},
    ],
)
def test_transformers_says_what_the_training_model_says(
    tokens: Dataset, tmp_path: Path, changes: dict[str, Any]
) -> None:
    from transformers import AutoModelForCausalLM

    model = decoder(**changes)
    trained = TrainedModel.from_files(trained_files(model, tmp_path, tokens), eos=0)
    folder = tmp_path / "hf"
    assert export(trained, folder) <= 1e-4
    loaded: Any = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).eval()
    inputs = torch.randint(0, 300, (3, model.config.context_length))
    with torch.no_grad():
        ours, theirs = model(inputs), loaded(inputs).logits
    assert ours.abs().max() > 1
    torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=0)
    if (
        model.config.architecture == "llama" or model.config.bias
    ):  # Hugging Face's GPT-2 has biases always
        mine, theirs = (sum(p.numel() for p in m.parameters()) for m in (model, loaded))
        assert mine == theirs


def test_the_tokenizer_comes_along(
    tokens: Dataset,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from transformers import AutoTokenizer, GenerationConfig

    folder = tmp_path / "hf"
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)  # to caplog
    export(TrainedModel.from_files(trained_files(decoder(), tmp_path, tokens), eos=0), folder)
    # Its samples are longer than the context of this model, which is no problem to warn of.
    assert "maximum sequence length" not in caplog.text
    exported: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    for text in texts(5):
        assert exported.encode(text) == tokenizer().encode(text).ids
        assert exported.decode(exported.encode(text)) == text
    assert exported.eos_token_id == exported.bos_token_id == 0
    assert exported.model_max_length == 16
    assert GenerationConfig.from_pretrained(folder, local_files_only=True).eos_token_id == 0


def test_a_model_that_says_something_else_is_not_released(tokens: Dataset, tmp_path: Path) -> None:
    files = trained_files(decoder(), tmp_path, tokens)
    weights = load(files["model.safetensors"])
    first = weights["blocks.0.qkv.weight"]
    first[:32] = first[:32].roll(1, 0)  # query rows, each in its neighbour's place
    wrong = TrainedModel.from_files({**files, "model.safetensors": save(weights)}, eos=0)
    with pytest.raises(ParityError, match=r"differs by .* nothing was released"):
        export(wrong, tmp_path / "hf")


def test_no_number_is_no_agreement(tokens: Dataset, tmp_path: Path) -> None:
    trained = TrainedModel.from_files(trained_files(decoder(), tmp_path, tokens), eos=0)
    export(trained, tmp_path / "hf")
    nan_logits = {
        **trained.reference_logits,
        "logits": trained.reference_logits["logits"] * torch.nan,
    }
    with pytest.raises(ParityError):
        check_logits(TrainedModel(trained.model_config, {}, nan_logits, b"", 0), tmp_path / "hf")


def commit_model(ctx: Context, tokens: Dataset, folder: Path, model: Decoder) -> Dataset:
    """Commit a model as ``train`` does."""
    files = trained_files(model, folder, tokens)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    facts = {"parameters": 7, "loss": 3.2, "validation_loss": 3.5, "tokens": 1280, "epochs": 0.25}
    return commit_files(
        ctx,
        DatasetSpec(
            TRAIN, "tiny", {"model": {"architecture": model.config.architecture}}, (tokens,)
        ),
        {name: folder / name for name in files},
        counts=tokens.counts,
        stats=facts,
    )


def test_a_release_is_a_folder_that_transformers_loads(tokens: Dataset, tmp_path: Path) -> None:
    ctx = context(tmp_path / "store")
    trained = commit_model(ctx, tokens, tmp_path, decoder())
    spec = task.spec(ctx, model=trained, tokens=tokens)
    made = task.build(ctx, spec, model=trained, tokens=tokens)
    assert made.stats["largest_logit_difference"] <= 1e-4
    assert made.counts == trained.counts
    folder = made.storage.local_path()
    assert folder is not None
    weights = load_file(folder / "model.safetensors")
    assert "model.layers.1.mlp.gate_proj.weight" in weights
    card = (folder / "README.md").read_text()
    for expected in (
        "# tiny",
        "transformers 4.57",
        "3.5000 nats per token on held-out documents",
        f"`{tokens.fingerprint[:16]}`",
        "| optim.lr | `0.01` |",
        "none recorded.",
    ):
        assert expected in card
    again = task.build(ctx, spec, model=trained, tokens=tokens)
    assert again.content == made.content


@pytest.mark.parametrize(("family", "changes"), [("llama", {}), ("gpt2", {"num_kv_heads": None})])
def test_card_and_statistics_name_the_class_of_the_family(
    tokens: Dataset, tmp_path: Path, family: str, changes: dict[str, Any]
) -> None:
    ctx = context(tmp_path / "store")
    trained = commit_model(ctx, tokens, tmp_path, decoder(architecture=family, **changes))
    made = task.build(
        ctx, task.spec(ctx, model=trained, tokens=tokens), model=trained, tokens=tokens
    )
    names = {"llama": "LlamaForCausalLM", "gpt2": "GPT2LMHeadModel"}
    assert (made.stats["format"], made.stats["kind"]) == (names[family], "causal")
    card = made.read("README.md").decode()
    assert [name for name in names.values() if name in card] == [names[family]]
    assert "Llama" not in card or family == "llama"


def test_a_family_without_an_export_is_refused_before_training(
    tokens: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lm.launch.preflight.hf_modules", lambda _: ())
    (error,) = training_errors(tiny())
    assert "train.tiny.family" in str(error)
    assert "llama" in str(error)
    monkeypatch.setattr("tasks.release.export.load_hf", lambda _: None)
    trained = TrainedModel.from_files(trained_files(decoder(), tmp_path, tokens), eos=0)
    with pytest.raises(UserError, match="llama"):
        export(trained, tmp_path / "hf")


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"pretokenizer": "gpt2", "digits": "default", "spaces": "merge"}, "gpt-2"),
        ({"pretokenizer": "llama3", "normalization": "none"}, "llama-bpe"),
        ({"pretokenizer": "gpt2", "digits": "individual"}, None),
        ({"pretokenizer": "gpt2", "normalization": "nfc"}, None),
        ({"tokenizer": "a digest"}, None),
    ],
)
def test_the_card_names_the_pre_tokenizer_of_llama_cpp(
    config: dict[str, str], name: str | None
) -> None:
    assert find_llama_cpp_pre_tokenizer(config) == name
