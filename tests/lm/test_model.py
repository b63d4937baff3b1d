import math

import pytest
import torch
from torch.nn import functional as F  # noqa: N812
from torch.utils.flop_counter import FlopCounterMode

from lm.models import cross_entropy as loss_module
from lm.models.attention import (
    MAX_EXPLICIT_CONTEXT,
    apply_rotary,
    attention,
    causal_attention,
    rotary_table,
    sinusoidal_table,
)
from lm.models.cross_entropy import cross_entropy
from lm.models.decoder.model import Decoder
from lm.models.decoder.sections import DecoderConfig
from lm.models.registry import build_model

SHAPE = DecoderConfig(
    vocab_size=97,
    num_layers=2,
    hidden_size=32,
    num_heads=4,
    num_kv_heads=2,
    ffn_size=64,
    context_length=24,
    tie_embeddings=False,
)

SHAPES = [
    pytest.param(SHAPE, id="llama"),
    pytest.param(DecoderConfig(97, 2, 32, 4, 4, 64, 24, architecture="gpt2", bias=True), id="gpt2"),
    pytest.param(
        DecoderConfig(97, 2, 32, 4, 4, 64, 24, architecture="gpt2", positions="sinusoidal"),
        id="gpt2-sinusoidal",
    ),
]


def model(shape: DecoderConfig = SHAPE) -> Decoder:
    torch.manual_seed(1)
    built = build_model(shape)
    assert isinstance(built, Decoder)
    return built


@pytest.mark.parametrize("tied", [True, False])
def test_an_untrained_model_knows_nothing(tied: bool) -> None:
    shape = DecoderConfig(5000, 2, 64, 4, 4, 96, 32, tie_embeddings=tied)
    tokens = torch.randint(0, 5000, (8, 33))
    loss = model(shape)(tokens[:, :-1], tokens[:, 1:]) / tokens[:, 1:].numel()
    assert loss.item() == pytest.approx(math.log(5000), rel=0.01)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_prediction_does_not_see_what_follows(shape: DecoderConfig) -> None:
    tokens = torch.randint(0, 97, (2, 24))
    changed = tokens.clone()
    changed[:, 12:] = (changed[:, 12:] + 1) % 97
    decoder = model(shape)
    before, after = decoder(tokens), decoder(changed)
    assert torch.equal(before[:, :12], after[:, :12])
    assert not torch.allclose(before[:, 12:], after[:, 12:])


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_in_chunks_is_the_loss(
    smoothing: float, fused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``fused``: what compilation for a GPU makes of it; the rest of it runs here."""
    monkeypatch.setattr(loss_module, "_is_fused", lambda _: fused)
    torch.manual_seed(0)
    targets = torch.randint(0, 97, (50,))
    targets[[3, 49]] = -1
    results = []
    for chunked in (True, False):
        monkeypatch.setattr(loss_module, "CHUNK_ELEMENTS", 97 * 7)
        torch.manual_seed(2)
        hidden = torch.randn(50, 16, requires_grad=True)
        weight = torch.randn(97, 16, requires_grad=True)
        bias = torch.randn(97, requires_grad=True)
        if chunked:
            loss = cross_entropy(hidden, weight, targets, smoothing, bias)
        else:
            loss = F.cross_entropy(
                hidden @ weight.T + bias,
                targets,
                ignore_index=-1,
                reduction="sum",
                label_smoothing=smoothing,
            )
        (loss * 0.5).backward()
        results.append((loss, hidden.grad, weight.grad, bias.grad))
    for ours, theirs in zip(*results, strict=True):
        assert ours is not None
        torch.testing.assert_close(ours, theirs)


def test_without_gradients_the_loss_is_the_same() -> None:
    hidden, weight = torch.randn(9, 8), torch.randn(11, 8, requires_grad=True)
    targets = torch.randint(0, 11, (9,))
    with torch.no_grad():
        quiet = cross_entropy(hidden, weight, targets)
    assert torch.equal(quiet, cross_entropy(hidden, weight, targets).detach())


def test_without_gradients_none_are_worked_out() -> None:
    """Though the head is a parameter: validation makes its logits and nothing else."""
    hidden, weight = torch.randn(9, 8), torch.randn(11, 8, requires_grad=True)
    targets = torch.randint(0, 11, (9,))
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        cross_entropy(hidden, weight, targets)
    assert counted.get_total_flops() == 2 * 9 * 8 * 11


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_both_roads_of_attention_agree(kv_heads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    q = torch.randn(2, 4, 24, 8)
    k, v = torch.randn(2, 2, kv_heads, 24, 8).unbind()
    assert q.shape[2] <= MAX_EXPLICIT_CONTEXT
    explicit = causal_attention(q, k, v)
    monkeypatch.setattr("lm.models.attention.MAX_EXPLICIT_CONTEXT", 0)
    torch.testing.assert_close(explicit, causal_attention(q, k, v))


def test_positions_matter_only_by_their_distance() -> None:
    """Rotary positions: moving both tokens of a pair changes nothing about it."""
    decoder = model(DecoderConfig(97, 1, 32, 4, 4, 64, 24))
    alone, shifted = torch.tensor([[5, 6]]), torch.tensor([[9, 5, 6]])
    block = decoder.blocks[0]
    scores = []
    for tokens in (alone, shifted):
        x = decoder.embed(tokens)
        qkv = block.qkv(x).view(1, tokens.shape[1], -1, 8).transpose(1, 2)  # type: ignore[operator]
        cos, sin = (table[: tokens.shape[1]] for table in rotary_table(8, 24, 1e4))
        turned = apply_rotary(qkv, cos, sin)
        q, k, _ = turned.split((4, 4, 4), dim=1)
        scores.append((q[:, :, -1] * k[:, :, -2]).sum(-1))
    torch.testing.assert_close(scores[0], scores[1])


@pytest.mark.parametrize("shape", SHAPES)
def test_every_weight_learns(shape: DecoderConfig) -> None:
    decoder = model(shape)
    tokens = torch.randint(0, 97, (4, 25))
    decoder(tokens[:, :-1], tokens[:, 1:]).backward()
    for name, weight in decoder.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().sum() > 0, name


@pytest.mark.parametrize("shape", SHAPES)
def test_documents_in_one_row_do_not_see_each_other(shape: DecoderConfig) -> None:
    """A row of three documents says of each what the document says alone."""
    decoder, eos = model(shape), 7
    documents = [torch.tensor([eos, 1, 2, 3]), torch.tensor([eos, 4]), torch.tensor([eos, 5, 6, 8])]
    together = decoder(torch.cat(documents)[None], eos=eos)[0]
    alone = torch.cat([decoder(document[None])[0] for document in documents])
    torch.testing.assert_close(together, alone)
    assert not torch.allclose(decoder(torch.cat(documents)[None])[0], alone)


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_made_again_is_what_was_kept(shape: DecoderConfig) -> None:
    tokens = torch.randint(0, 97, (3, 25))
    keys = torch.tensor([1, 2, 3])
    gradients = []
    for recompute in (False, True):
        decoder = model(shape)
        decoder.activation_checkpointing, decoder.dropout = recompute, 0.2
        decoder(tokens[:, :-1], tokens[:, 1:], dropout_keys=keys).backward()
        gradients.append([weight.grad for weight in decoder.parameters()])
    for kept, again in zip(*gradients, strict=True):
        assert kept is not None
        assert again is not None
        assert torch.equal(kept, again)


@pytest.mark.parametrize("shape", SHAPES)
def test_both_roads_of_attention_agree_on_documents(
    shape: DecoderConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = model(shape)
    tokens = torch.randint(0, 10, (3, 24))
    explicit = decoder(tokens, eos=7)
    monkeypatch.setattr("lm.models.attention.MAX_EXPLICIT_CONTEXT", 0)
    torch.testing.assert_close(explicit, decoder(tokens, eos=7))


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("biased", [True, False])
def test_both_roads_of_attention_to_both_sides_agree(
    masked: bool, biased: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    q, k, v = (torch.randn(2, 4, length, 8) for length in (5, 7, 7))
    mask = (torch.rand(2, 1, 5, 7) < 0.7) | (torch.arange(7) == 0) if masked else None
    bias = torch.randn(1, 4, 5, 7) if biased else None
    explicit = attention(q, k, v, mask, bias, scale=1.0)
    scores = q @ k.transpose(-1, -2) + (0 if bias is None else bias)
    by_hand = scores if mask is None else scores.masked_fill(~mask, -torch.inf)
    torch.testing.assert_close(explicit, by_hand.softmax(-1) @ v)
    monkeypatch.setattr("lm.models.attention.MAX_EXPLICIT_CONTEXT", 1)
    torch.testing.assert_close(explicit, attention(q, k, v, mask, bias, scale=1.0))
    torch.testing.assert_close(
        attention(q, k, v), (q @ k.transpose(-1, -2) / 8**0.5).softmax(-1) @ v
    )


def test_sinusoidal_positions_are_those_of_the_paper() -> None:
    table = sinusoidal_table(50, 6) * 6**0.5
    for position in (0, 1, 49):
        angles = [position / 10_000 ** (2 * i / 6) for i in range(3)]
        expected = [f(angle) for angle in angles for f in (math.sin, math.cos)]
        assert table[position].tolist() == pytest.approx(expected, abs=1e-5)
