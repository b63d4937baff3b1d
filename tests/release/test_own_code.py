"""Models that transformers do not have: the exported folder has their code."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from infra.dataset.dataset import Dataset
from lm.models.hf_auto import load_model
from lm.models.neural_lm import NeuralLM
from lm.scoring.huggingface import HuggingFaceModel
from lm.scoring.language_model import GenerationConfig
from tasks.release.export import TrainedModel, export
from tests.lm.corpora import token_shards
from tests.lm.test_families import FAMILIES, model
from tests.release import load_export, test_denoising
from tests.release.test_release import trained_files

MODELING_FILES = ("lstm", "cnn")  # a family for each
CASES = [(family, tied) for family in FAMILIES for tied in (True, False)]


def far_from_start(family: str, *, tied: bool) -> NeuralLM:
    network = model(family, 300, tie_embeddings=tied)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
    return network


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return token_shards(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def folders(
    tmp_path_factory: pytest.TempPathFactory, tokens: Dataset
) -> dict[tuple[str, bool], Path]:
    made = {}
    for family, tied in CASES:
        folder = tmp_path_factory.mktemp(f"{family}-{tied}")
        trained = trained_files(far_from_start(family, tied=tied), folder, tokens)
        assert export(TrainedModel.from_files(trained, eos=0), folder / "hf") <= 1e-4
        made[family, tied] = folder / "hf"
    return made


@pytest.mark.parametrize(("family", "tied"), CASES)
def test_the_export_says_what_the_training_model_says(
    folders: dict[tuple[str, bool], Path], family: str, tied: bool
) -> None:
    loaded, network = load_model(folders[family, tied]), far_from_start(family, tied=tied)
    inputs = torch.randint(0, 300, (3, 24))
    with torch.no_grad():
        ours, theirs = network(inputs), loaded(inputs).logits
    assert ours.abs().max() > 1
    torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=0)
    counts = [sum(p.numel() for p in each.parameters()) for each in (network, loaded)]
    assert counts[0] == counts[1]
    weights = load_file(folders[family, tied] / "model.safetensors")
    assert ("lm_head.weight" in weights) != tied


@pytest.mark.parametrize("family", FAMILIES)
def test_generation_with_a_state_is_generation_from_the_start(
    folders: dict[tuple[str, bool], Path], family: str
) -> None:
    folder = folders[family, True]
    loaded = load_model(folder)
    ids = torch.tensor([[0, 5, 6, 7]])
    for _ in range(8):
        ids = torch.cat([ids, loaded(ids).logits[:, -1:].argmax(-1)], dim=1)
    expected = ids[0].tolist()
    ours = HuggingFaceModel(folder, 0).generate(
        [torch.tensor([5, 6, 7]).numpy()], [1], GenerationConfig(8, 0.0, 1)
    )[0]
    assert ours == expected[4 : 4 + len(ours)]
    assert len(ours) == 8 or ours[-1] == 0
    for beams in (1, 3):
        with_state, without = (
            loaded.generate(
                ids[:, :4],
                max_new_tokens=8,
                num_beams=beams,
                do_sample=False,
                eos_token_id=None,
                use_cache=use_cache,
            ).tolist()
            for use_cache in (True, False)
        )
        assert with_state == without
        assert beams > 1 or with_state == [expected]


@pytest.mark.parametrize("family", MODELING_FILES)
def test_padding_on_the_left_is_refused(folders: dict[tuple[str, bool], Path], family: str) -> None:
    loaded = load_model(folders[family, True])
    with pytest.raises(ValueError, match="padding"):
        loaded(torch.tensor([[0, 5]]), attention_mask=torch.tensor([[0, 1]]))


def test_others_load_the_folder_with_its_own_code(
    folders: dict[tuple[str, bool], Path], tokens: Dataset, tmp_path: Path
) -> None:
    """In a process without this project's modules."""
    network = test_denoising.far_from_start("bahdanau", tied=True)
    files, seq2seq = trained_files(network, tmp_path, tokens), tmp_path / "hf"
    export(TrainedModel.from_files(files, eos=0), seq2seq)
    paths = [*(str(folders[family, True]) for family in MODELING_FILES), str(seq2seq)]
    done = subprocess.run(
        [sys.executable, load_export.__file__, json.dumps(["a crow counted"]), *paths],
        cwd=tmp_path,
        env={**os.environ, "HF_MODULES_CACHE": str(tmp_path / "code"), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    assert len(answers) == len(paths)
    for answer in answers:
        assert answer["difference"] <= 1e-4
        assert answer["generated"] > 2
    copied = {path.name for path in (tmp_path / "code").rglob("modeling_*.py")}
    assert copied == {"modeling_recurrent.py", "modeling_cnn.py", "modeling_seq2seq_gru.py"}
