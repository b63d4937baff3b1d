"""A language model with the head of another task; shape letters as in ``lm.models.neural_lm``.

L labels, G texts of an example. Functions and parameters are those of transformers' classes with the
same head, so that a checkpoint exports by renaming (``lm.models.heads.hf``).
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from lm.models.dropout import dropout, site_keys
from lm.models.encoder.model import Encoder
from lm.models.heads.config import HeadConfig, check_base, pooling
from lm.models.heads.length_groups import text_states
from lm.models.heads.losses import classification_loss, contrastive_loss, span_loss
from lm.models.neural_lm import ArchitectureConfig, NeuralLM, TrainableModel
from lm.models.registry import build_model
from lm.objectives.classification import Classification
from lm.objectives.contrastive import Contrastive
from lm.objectives.examples import Objective
from lm.objectives.spans import Spans
from lm.objectives.tagging import Tagging

if TYPE_CHECKING:
    from lm.config.loop import LoopConfig

HEAD_SITE = 1 << 20  # of dropout: none of a base's sites has this number


class FineTuned(TrainableModel):
    """The base without its language modeling head, and a linear layer on what it makes of a text.

    Attributes:
        base: gives the hidden states of texts.
        head: the task.
        pooler: between BERT's state of the first token and the classifier, as in ``BertModel``.
        classifier: the linear layer; an embedding has none.
    """

    def __init__(self, base: NeuralLM, head: HeadConfig) -> None:
        """Take over a base: it loses what only language modeling needs."""
        super().__init__()
        check_base(base.config, head)
        self.config, self.head, size = base.config, head, base.config.hidden_size
        architecture = base.config.architecture
        self.pooling = pooling(architecture)
        self.keeps_transform = architecture == "modernbert" and head.task != "embedding"
        del base.head
        if isinstance(base, Encoder) and not self.keeps_transform:
            base.norm.dense = base.norm.norm = nn.Identity()  # type: ignore[assignment]
        self.base = base
        has_pooler = architecture == "bert" and head.task == "classification"
        self.pooler = nn.Linear(size, size) if has_pooler else None
        # Those of transformers' decoders for sequence classification have no bias.
        bias = not (self.pooling == "last" and head.task == "classification")
        has_classifier = head.task != "embedding"
        self.classifier = nn.Linear(size, head.num_outputs, bias=bias) if has_classifier else None
        for layer in (self.pooler, self.classifier):
            if layer is not None:
                nn.init.normal_(layer.weight, std=0.02)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def prepare_training(self, config: "LoopConfig") -> None:
        """Set what an entry of the recipe says of training."""
        NeuralLM.prepare_training(self.base, config)  # no regularization of language models

    def layers(self) -> Iterable[nn.Module]:
        """Return the layers that FSDP shards one by one."""
        return self.base.layers()

    def weight_matrices(self) -> list[tuple[Tensor, list[int]]]:
        """Return the base's matrices and the head's, and the rows of those that each is stacked from."""
        own = [layer for layer in (self.pooler, self.classifier) if layer is not None]
        return [*self.base.weight_matrices(), *((x.weight, [x.out_features]) for x in own)]

    def flops_per_token(self) -> float:
        """Return the base's operations per token, without those of its language modeling head."""
        predicted = getattr(self.config, "mask_fraction", 1.0)
        lm_head = 6.0 * predicted * self.config.vocab_size * self.config.hidden_size
        return self.base.flops_per_token() - lm_head

    def objective(self, seed: int, eos: int) -> Objective:  # noqa: ARG002
        """Return how rows become what the model reads and predicts."""
        match self.head.task:
            case "classification":
                return Classification(self.head.num_targets)
            case "tagging":
                return Tagging()
            case "qa":
                return Spans()
            case "embedding":
                return Contrastive(self.head.num_negatives)

    def saved_weights(self) -> dict[str, Tensor]:
        """Return the weights: the base's by its own names, and the head's."""
        return {name.removeprefix("base."): weight for name, weight in self.state_dict().items()}

    def load_saved(self, weights: dict[str, Tensor]) -> None:
        """Set the weights to those that ``saved_weights`` returned."""
        own = ("pooler.", "classifier.")
        self.load_state_dict(
            {n if n.startswith(own) else f"base.{n}": weight for n, weight in weights.items()}
        )

    def forward(
        self,
        tokens_bt: Tensor,
        targets: Tensor | None = None,
        *,
        eos: int | None = None,  # noqa: ARG002 - a row is one example
        dropout_keys: Tensor | None = None,
        label_smoothing: float = 0.0,
    ) -> Tensor:
        """Return logits or, given targets, their summed loss in nats.

        Args:
            tokens_bt: ids; those below zero are padding on the right, which changes no result. With
                targets of an embedding they are int64[B, G T]: the query, the positive, negatives.
            targets: those below zero are not counted. int64[B, 1], a label, or int64[B, L] of 0 and 1
                (classification); int64[B, T], a tag per token (tagging); int64[B, 2], the positions of
                the answer's first and last token (qa); int64[B, 1], zero (embedding).
            eos: not used.
            dropout_keys: int64[B], what each sample's dropout is drawn from; ``None``: no dropout.
            label_smoothing: fraction of the target that is spread evenly over the labels
                (classification and tagging).

        Returns:
            Logits float[B, L] (classification), float[B, T, L] (tagging), float[B, T, 2] (qa), or
            vectors of length 1, float[B, D] (embedding).
        """
        if self.head.task == "embedding":
            if targets is None:
                return self._embed(tokens_bt, dropout_keys)
            groups = 2 + self.head.num_negatives
            texts = tokens_bt.view(len(tokens_bt) * groups, -1)
            keys = None if dropout_keys is None else dropout_keys.repeat_interleave(groups)
            vectors = self._embed(texts, keys).view(len(tokens_bt), groups, -1)
            return contrastive_loss(vectors, targets, tokens_bt, self.head.temperature)
        logits = self._logits(tokens_bt, dropout_keys)
        if targets is None:
            return logits
        if self.head.task == "qa":
            return span_loss(logits, targets, tokens_bt >= 0)
        return classification_loss(logits, targets, self.head, label_smoothing)

    def _logits(self, tokens_bt: Tensor, keys_b: Tensor | None) -> Tensor:
        states = text_states(self.base, tokens_bt, keys_b)
        if self.head.task == "classification":
            states = self.pool(states, tokens_bt)
        if self.pooler is not None:
            states = torch.tanh(self.pooler(states))
        if self.keeps_transform:
            states = cast("Encoder", self.base).norm.transform(states)
        keys_b = None if keys_b is None else site_keys(keys_b, HEAD_SITE)
        return cast("Tensor", self.classifier(dropout(states, keys_b, self.base.dropout)))  # type: ignore[misc]

    def _embed(self, tokens_bt: Tensor, keys_b: Tensor | None) -> Tensor:
        states = text_states(self.base, tokens_bt, keys_b)
        return nn.functional.normalize(mean_of_text(states.float(), tokens_bt), dim=-1)

    def pool(self, states_btd: Tensor, tokens_bt: Tensor) -> Tensor:
        """Return the state of each text, float[B, D].

        The last token is the last one that is no end of text, as transformers' decoders choose it,
        whose padding it is.
        """
        if self.pooling == "first":
            return states_btd[:, 0]
        if self.pooling == "mean":
            return mean_of_text(states_btd, tokens_bt)
        is_text = (tokens_bt >= 0) & (tokens_bt != self.head.eos_id)
        time = torch.arange(tokens_bt.shape[1], device=tokens_bt.device)
        last_b = (time * is_text).argmax(1)
        return states_btd[torch.arange(len(tokens_bt), device=tokens_bt.device), last_b]


def mean_of_text(states_btd: Tensor, tokens_bt: Tensor) -> Tensor:
    """Return the mean over the positions that are no padding, float[B, D]."""
    is_text = (tokens_bt >= 0).unsqueeze(-1).to(states_btd.dtype)
    return (states_btd * is_text).sum(1) / is_text.sum(1).clamp_min(1)


def build_finetuned(base_config: ArchitectureConfig, head: HeadConfig) -> FineTuned:
    """Return a model with fresh weights, drawn from torch's generator.

    Raises:
        UserError: if no head for the task stands on a model of this kind.
    """
    return FineTuned(build_model(base_config), head)


@torch.no_grad()
def reference_outputs(model: FineTuned) -> dict[str, Tensor]:
    """Return fixed inputs and what the model makes of them, by which an export is checked.

    ``tokens`` int64[2, T], of which the second text is padded from its middle on, and ``logits``, those of
    ``forward``, computed in fp32.
    """
    length = model.config.context_length
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, model.config.vocab_size, (2, length), generator=generator)
    tokens[1, length // 2 :] = -1
    return {"tokens": tokens, "logits": model(tokens).contiguous()}


def load_base(model: FineTuned, weights: dict[str, Tensor]) -> None:
    """Set the base's weights to those of a trained language model, by the training model's names.

    What only language modeling needs, its head, is left out.
    """
    names = model.base.state_dict()
    model.base.load_state_dict({name: weights[name] for name in names})
