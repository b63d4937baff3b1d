"""The exported folder as the programs read it that users load it with."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, normalizers

from lm.models.registry import build_model
from tasks.release.export import TrainedModel, export
from tests.environments import interpreter
from tests.lm.corpora import texts, tiny, tokenizer
from tests.release.test_release import trained_files

PACKAGES = ("transformers==4.57.6", "tokenizers==0.22.2", "huggingface-hub==0.36.0")
SCRIPT = Path(__file__).with_name("load_export.py")
TEXTS = [*texts(2), "Ça va? Größe, мир, 🙂  two  spaces\n\n 1234567 e\u0301", ""]


@pytest.fixture(scope="session")
def transformers4(pytestconfig: pytest.Config) -> Path:
    """An interpreter with transformers 4; other packages are those of this environment."""
    return interpreter(pytestconfig, "transformers-4", PACKAGES)


def other_tokenizer() -> bytes:
    """One with a normalizer and a reserved special token."""
    made = Tokenizer.from_str(tokenizer().to_str())
    made.normalizer = normalizers.NFC()
    made.add_special_tokens([AddedToken("<|user|>", special=True, normalized=False)])
    return made.to_str().encode()


def export_model(folder: Path, tokenizer_json: bytes, rope_theta: float, **changes: Any) -> Path:
    torch.manual_seed(3)
    config = replace(tiny(**changes).model.resolve(301), rope_theta=rope_theta)
    model: Any = build_model(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)

    class Tokens:
        def read(self, _: str) -> bytes:
            return tokenizer_json

    files = trained_files(model, folder, Tokens())  # type: ignore[arg-type]
    export(TrainedModel.from_files(files, eos=0), folder / "hf")
    return folder / "hf"


NORMALIZED = other_tokenizer()
PLAIN = tokenizer().to_str().encode()
MODELS: dict[str, tuple[bytes, float, dict[str, Any]]] = {
    "llama": (PLAIN, 10_000.0, {}),
    "llama with another theta": (NORMALIZED, 500_000.0, {"tie_embeddings": False}),
    "gpt2": (PLAIN, 10_000.0, {"architecture": "gpt2", "num_kv_heads": None}),
}


@pytest.mark.parametrize("major", [4, 5])
def test_transformers_4_and_5_load_the_same_models(
    tmp_path: Path, transformers4: Path, major: int
) -> None:
    folders = []
    for name, (tokenizer_json, rope_theta, changes) in MODELS.items():
        (tmp_path / name).mkdir()
        folders.append(export_model(tmp_path / name, tokenizer_json, rope_theta, **changes))
    python = transformers4 if major == 4 else sys.executable
    run = subprocess.run(
        [python, SCRIPT, json.dumps(TEXTS), *folders],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    answers = json.loads(run.stdout.splitlines()[-1])
    for (name, (tokenizer_json, *_)), loaded in zip(MODELS.items(), answers, strict=True):
        plain = Tokenizer.from_str(tokenizer_json.decode())
        assert loaded["version"].startswith(f"{major}.")
        assert loaded["difference"] <= 1e-4, name
        assert loaded["ids"] == [plain.encode(text).ids for text in TEXTS], name
        assert loaded["texts"] == [plain.decode(ids) for ids in loaded["ids"]], name
        assert loaded["special"] == [0, 0, 0], name
        assert loaded["context"] == [16, 16], name


def test_the_folder_has_what_converters_read(tmp_path: Path) -> None:
    """The names that llama.cpp's ``conversion`` and ``gguf.SpecialVocab`` look up."""
    for name, changes in (("llama", {}), ("gpt2", {"architecture": "gpt2", "num_kv_heads": None})):
        (tmp_path / name).mkdir()
        folder = export_model(tmp_path / name, tokenizer().to_str().encode(), 20_000.0, **changes)
        config = json.loads((folder / "config.json").read_text())
        settings = json.loads((folder / "tokenizer_config.json").read_text())
        added = {
            token["content"]: token["id"]
            for token in json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
        }
        # A class that every version of transformers since 4.0 has; vLLM loads it through AutoTokenizer.
        assert settings["tokenizer_class"] == "PreTrainedTokenizerFast"
        for kind in ("bos", "eos", "pad"):
            assert added[settings[f"{kind}_token"]] == 0  # a string, listed in tokenizer.json
        assert settings["add_bos_token"] is settings["add_eos_token"] is False
        assert config["eos_token_id"] == config["bos_token_id"] == 0
        if name == "gpt2":
            assert config["architectures"] == ["GPT2LMHeadModel"]
            assert config["n_ctx"] == config["n_positions"] == 16
        else:
            assert config["architectures"] == ["LlamaForCausalLM"]
            assert config["rope_theta"] == config["rope_parameters"]["rope_theta"] == 20_000.0
