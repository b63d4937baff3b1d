"""What is read of released folders, and how text becomes ids."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import AutoTokenizer

from infra.dataset.fingerprint import bytes_sha256
from infra.dataset.manifest import FileRecord
from infra.errors import UserError
from lm.objectives.chat import TEMPLATE, TURN_END
from lm.scoring.load import weights_digest
from serve.models import NoChatTemplateError, load_served_model
from tests.serve.released import CONTEXT_LENGTH, EOS, MODELS, Releases

KINDS = {"t5": "seq2seq", "bahdanau": "seq2seq", "bert": "masked", "modernbert": "masked"}


@pytest.mark.parametrize("name", MODELS)
def test_a_folder_says_what_its_model_can_do(releases: Releases, name: str) -> None:
    served = load_served_model(releases(name), "tiny")
    assert served.kind == KINDS.get(name, "causal")
    assert served.context_length == MODELS[name].get("context_length", CONTEXT_LENGTH)
    assert (served.eos_id, served.stop_ids) == (EOS, frozenset([EOS]))
    assert served.generates == (served.kind != "masked")
    assert served.embeds == (served.kind != "seq2seq")
    assert (served.mask_id is None) == (served.kind != "masked")
    text = "The miller ground"
    own: Any = AutoTokenizer.from_pretrained(releases(name), local_files_only=True)
    if served.kind == "seq2seq":
        sentinel = own.convert_tokens_to_ids("<extra_id_0>")
        ids = own(text).input_ids
        assert served.encode_prompt(text) == [EOS, *ids, sentinel, EOS]
        assert served.encode_prompt("<extra_id_0>" + text)[:2] == [EOS, sentinel]
        assert served.encode_prompt("<extra_id_0>" + text).count(sentinel) == 1
    else:
        assert served.encode_prompt(text) == own(text).input_ids


def test_a_model_has_the_digest_by_which_the_stages_know_it(releases: Releases) -> None:
    folder = releases("lstm")
    files = {}
    for path in folder.iterdir():
        data = path.read_bytes()
        files[path.name] = FileRecord(path.name, len(data), bytes_sha256(data))
    release: Any = SimpleNamespace(manifest=SimpleNamespace(files=files))
    assert load_served_model(folder, "x").digest == weights_digest(release)


def test_a_conversation_is_encoded_as_transformers_do(releases: Releases, tmp_path: Path) -> None:
    for path in releases("llama").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    own: Any = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    own.chat_template = TEMPLATE
    own.save_pretrained(tmp_path)
    served = load_served_model(tmp_path, "x")
    messages = [
        {"role": "system", "content": "You are a miller."},
        {"role": "user", "content": f"Who ground\n the corn? {TURN_END}"},
    ]
    expected = own.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    text = served.render_chat(messages)
    assert served.tokenize(text, adds_tokens=False) == expected
    with pytest.raises(NoChatTemplateError):
        load_served_model(releases("llama"), "x").render_chat(messages)


@pytest.mark.parametrize(
    "config", ["{", "[]", '{"architectures": ["LlamaForQuestionAnswering"]}', "{}"]
)
def test_folders_of_other_models_are_refused(
    releases: Releases, tmp_path: Path, config: str
) -> None:
    (tmp_path / "tokenizer.json").write_bytes((releases("llama") / "tokenizer.json").read_bytes())
    with pytest.raises(UserError, match=r"config\.json"):
        load_served_model(tmp_path, "x")
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(UserError, match=r"config\.json"):
        load_served_model(tmp_path, "x")


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    with pytest.raises(UserError, match=r"tokenizer\.json"):
        load_served_model(tmp_path, "x")
