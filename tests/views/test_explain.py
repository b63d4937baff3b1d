"""What a model looks at: a planted cue is found, attributions add up, maps are probabilities."""

import base64
import json
import shutil
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from cli.explain import explain as command
from infra.errors import UserError
from infra.store.storage import Storage
from lm.interpret.attention import attention_rollout
from lm.interpret.attribution import integrated_gradients
from lm.interpret.embeddings import nearest_neighbors, project
from lm.interpret.explain import explain, explain_tokens
from lm.interpret.interpretation import MAX_STEPS, MAX_TOKENS, interpret_model
from lm.interpret.labels import make_baseline
from lm.interpret.packed_maps import unpack_map
from lm.models.heads.config import describe
from lm.models.heads.model import reference_outputs
from lm.objectives.classification import encode
from tasks.release.export import TrainedModel
from tasks.release.finetuned import export_finetuned
from tests.lm.corpora import tokenizer
from tests.lm.test_heads import (
    EOS,
    finetuned,
    head_config,
    language_model,
    text_encoder,
    train,
)
from tests.release.test_denoising import far_from_start
from tests.serve.released import release_model
from views.explain.page import render_page
from views.explain.released import open_released
from views.report.heatmap import heatmap
from views.report.token_colors import token_colors

FILLERS = ("the mill", "a wind", "the corn", "my hand", "its sea", "the stones")
CUES = {"good": "Q", "bad": "Z"}


def classifier_folder(architecture: str, folder: Path) -> Path:
    """A classifier whose only hint is one letter, somewhere in the text."""
    texts, labels = [], []
    for label, cue in CUES.items():
        for number, filler in enumerate(FILLERS):
            words = [filler, FILLERS[(number + 2) % len(FILLERS)]]
            words.insert(number % 3, cue)
            texts.append(" ".join(words))
            labels.append([label])
    encoder, names = text_encoder(architecture), tuple(CUES)
    encoded = encoder.encode(texts, [None] * len(texts), 40)
    head = head_config("classification", labels=names)
    model = finetuned(architecture, head, vocab_size=300, context_length=40)
    assert train(model, encode(encoded, labels, names, multi_label=False), 0.02) < 0.02
    trained = TrainedModel(
        describe(model.config, head),
        model.saved_weights(),
        reference_outputs(model),
        tokenizer().to_str().encode(),
        EOS,
    )
    export_finetuned(trained, "classification", folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {
        architecture: classifier_folder(architecture, tmp_path_factory.mktemp(architecture))
        for architecture in ("bert", "cnn")
    }


@pytest.mark.parametrize("architecture", ["bert", "cnn"])
@pytest.mark.parametrize("label", CUES)
def test_a_planted_cue_is_found(folders: dict[str, Path], architecture: str, label: str) -> None:
    text = f"a wind {CUES[label]} my hand"
    with open_released(Storage(str(folders[architecture]))) as released:
        explanation = explain(released, "here", [text])
    (found,) = explanation.texts
    (scored,) = found.attributions
    assert scored.target == label
    assert scored.probability > 0.9
    at = found.tokens.index(CUES[label])  # a space before it is a token of its own
    others = [score for number, score in enumerate(scored.scores) if number not in (at - 1, at)]
    assert sum(scored.scores[at - 1 : at + 1]) > max(others)
    assert abs(scored.delta) < 0.05 * abs(scored.total)
    assert sum(scored.scores) - scored.total == pytest.approx(scored.delta)
    assert (found.attention is None) == (architecture == "cnn")


def test_maps_are_probabilities_and_neighbors_are_others(folders: dict[str, Path]) -> None:
    with open_released(Storage(str(folders["bert"]))) as released:
        explanation = explain(released, "here", ["a Q b", "the Z"], target="bad")
    assert {text.attributions[0].target for text in explanation.texts} == {"bad"}
    for text in explanation.texts:
        size = len(text.tokens)
        maps = torch.tensor(text.attention)
        assert maps.shape == (2, 4, size, size)
        torch.testing.assert_close(maps.sum(-1), torch.ones(2, 4, size))
        torch.testing.assert_close(torch.tensor(text.rollout).sum(-1), torch.ones(size))
        assert len(text.points) == size
        for token, own in zip(text.tokens, text.neighbors, strict=True):
            assert token not in [name for name, _ in own if "\ufffd" not in name]
            assert len(own) == 5
    page = render_page(explanation)
    assert page.count("<figure>") == 2 * (1 + 2 * 4)


def test_each_token_that_is_written_is_explained(tmp_path: Path) -> None:
    base = language_model("llama", vocab_size=300)
    folder = release_model(base, tmp_path / "hf")
    with open_released(Storage(str(folder))) as released:
        explanation = explain(released, "here", ["the crow"], max_new_tokens=3)
    (text,) = explanation.texts
    assert len(text.attributions) == len(text.tokens) - text.num_read
    for number, scored in enumerate(text.attributions):
        assert scored.target == text.tokens[text.num_read + number]
        assert len(scored.scores) == text.num_read + number
        assert abs(scored.delta) < 1e-3 + 0.05 * abs(scored.total)


@pytest.mark.parametrize("kind", ["t5", "bahdanau"])
def test_what_an_encoder_decoder_writes_is_attributed_to_its_source(
    kind: str, tmp_path: Path
) -> None:
    base = far_from_start(kind, tied=True)
    folder = release_model(base, tmp_path / "hf")
    with open_released(Storage(str(folder))) as released:
        (text,) = explain(released, "here", ["the crow"], max_new_tokens=2).texts
        model, sentinel = released.model, released.model.config.sentinel_token_id
        source = torch.tensor([EOS, *released.tokenizer("the crow")["input_ids"], sentinel, EOS])
        blank = make_baseline(released.tokenizer, source)
        written = torch.tensor([[EOS]])
        for scored in text.attributions:
            assert len(scored.scores) == len(text.tokens) == len(source)
            # What they add up to is the difference of what the model says of both sources.
            with torch.no_grad():
                log_p, without = (
                    model(input_ids=ids[None], decoder_input_ids=written)
                    .logits[0, -1]
                    .log_softmax(-1)
                    for ids in (source, blank)
                )
            best = log_p.argmax()
            assert scored.probability == pytest.approx(float(log_p[best].exp()), abs=1e-5)
            assert scored.total == pytest.approx(float(log_p[best] - without[best]), abs=1e-4)
            assert abs(scored.delta) < 1e-3 + 0.05 * abs(scored.total)
            assert scored.scores[0] == scored.scores[-1] == 0
            written = torch.cat([written, best[None, None]], dim=1)
    assert 1 <= len(text.attributions) <= 2


def test_a_tokenizer_without_a_maximum_length_is_limited_by_its_model(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(folders["bert"], tmp_path / "hf")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    del settings["model_max_length"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    text = "a Q b " * 40
    with open_released(Storage(str(folders["bert"]))) as known:
        cut = known.encode(text)
    with open_released(Storage(str(folder))) as released:
        assert released.encode(text).tolist() == cut.tolist()
        assert released.encode(text, 12).tolist() == known.encode(text, 12).tolist()
    endless = replace(released, model=SimpleNamespace(config=SimpleNamespace()))
    assert len(endless.encode(text)) > len(cut)


def test_an_interpretation_is_small_and_says_what_the_explanation_says(
    folders: dict[str, Path],
) -> None:
    with open_released(Storage(str(folders["bert"]))) as released:
        released.model.set_attn_implementation("sdpa")
        ids = released.encode("a Q b " * 40, MAX_TOKENS)
        drawn = interpret_model(released, ids)
        assert released.model.config._attn_implementation == "sdpa"
        (found,) = explain_tokens(
            released, "", [""], [ids], max_new_tokens=1, max_steps=MAX_STEPS
        ).texts
        assert interpret_model(released, ids[:0]) is None
    assert drawn is not None
    assert drawn["tokens"] == found.tokens
    assert len(found.tokens) == MAX_TOKENS
    assert drawn["layers"] == [1, 2]
    for own, maps in zip(found.attention or (), drawn["maps"], strict=True):
        for head, packed in zip(own, maps, strict=True):
            torch.testing.assert_close(
                torch.tensor(unpack_map(packed)), torch.tensor(head), atol=1 / 500, rtol=0
            )
    assert drawn["attributions"][0]["target"] == found.attributions[0].target
    assert len(json.dumps(drawn)) < 30_000


class LinearModel(nn.Module):
    """Adds up what fixed weights give of each embedding: attributions are known exactly."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 4)
        self.weight = nn.Parameter(torch.randn(3, 4))

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embedding

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        terms: torch.Tensor = self.embedding(input_ids) * self.weight
        return terms.sum((1, 2))


def test_attributions_of_a_sum_are_its_terms() -> None:
    torch.manual_seed(0)
    model, ids, baseline = LinearModel(), torch.tensor([1, 2, 3]), torch.tensor([0, 0, 3])
    result = integrated_gradients(model, ids, baseline, lambda output: output)
    weights = model.embedding.weight
    expected = ((weights[ids] - weights[baseline]) * model.weight).sum(-1)
    torch.testing.assert_close(result.scores.float(), expected)
    assert result.scores[2] == 0
    assert result.delta == pytest.approx(0, abs=1e-5)


def test_rollout_is_the_product_of_the_layers() -> None:
    maps = torch.tensor([[[[1.0, 0.0], [0.5, 0.5]]], [[[0.0, 1.0], [1.0, 0.0]]]])
    first = torch.tensor([[1.0, 0.0], [0.25, 0.75]])
    second = torch.full((2, 2), 0.5)
    torch.testing.assert_close(attention_rollout(maps)[1], second @ first)


def test_neighbors_and_components_are_those_of_the_vectors() -> None:
    table = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [-1.0, 0.0]])
    assert [id_ for id_, _ in nearest_neighbors(table, torch.tensor([0]), 2)[0]] == [1, 2]
    line = torch.tensor([[0.0, 0, 0], [1, 1, 0], [2, 2, 0]])
    points = project(line)
    torch.testing.assert_close(points[:, 0].abs(), torch.tensor([2.0, 0, 2]).sqrt().double())
    assert points[:, 1].abs().max() < 1e-6
    assert project(line[:1]).tolist() == [[0.0, 0.0]]


def test_colors_are_relative_to_the_largest_score() -> None:
    assert token_colors([2.0, -1.0, 0.0]) == [
        "rgba(0,140,60,0.70)",
        "rgba(200,30,30,0.35)",
        "rgba(0,140,60,0.00)",
    ]
    assert token_colors([]) == []


def test_a_picture_has_a_pixel_for_each_value() -> None:
    data = base64.b64decode(heatmap([[0.0, 0.5], [1.0, 0.25]]).partition(",")[2])
    assert struct.unpack(">II", data[16:24]) == (2, 2)
    length = struct.unpack(">I", data[33:37])[0]
    pixels = zlib.decompress(data[41 : 41 + length])
    assert list(pixels) == [0, 255, 127, 0, 0, 191]


def test_the_command_writes_json_and_a_page(folders: dict[str, Path], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    options = ["--text", "the wind Q <b>", "--json", "--target", "good", "--output", str(page)]
    result = CliRunner().invoke(command, [str(folders["bert"]), *options])
    assert result.exit_code == 0, result.output
    value: dict[str, Any] = json.loads(result.stdout)
    assert value["texts"][0]["attributions"][0]["target"] == "good"
    html = page.read_text()
    assert "the wind Q &lt;b&gt;" in html
    assert "http" not in html.replace("http://www.w3.org", "")


def test_mistakes_are_one_line(folders: dict[str, Path], tmp_path: Path) -> None:
    for arguments in (
        [str(tmp_path / "nothing")],
        [str(folders["bert"]), "--target", "neutral"],
    ):
        page = str(tmp_path / "x.html")
        result = CliRunner().invoke(command, [*arguments, "--text", "a", "--output", page])
        assert result.exit_code == 1
        assert result.stderr.startswith("error: ")
        assert result.stderr.count("\n") == 1


def test_a_text_without_tokens_is_refused(folders: dict[str, Path]) -> None:
    with open_released(Storage(str(folders["bert"]))) as released:
        released.tokenizer._tokenizer.post_processor = None
        with pytest.raises(UserError):
            explain(released, "here", [""])
