"""Load a released model of any kind as what scores texts: the one list of kinds that can."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

from infra.dataset.dataset import Dataset
from infra.dataset.model_folder import digest_weights
from lm.models.model_kind import CAUSAL, COUNTS, MASKED, SEQ2SEQ
from lm.scoring.language_model import LanguageModel, MaskedScorer

Scorer = LanguageModel | MaskedScorer


def _load_causal(folder: Path, eos: int) -> LanguageModel:
    from lm.scoring.huggingface import HuggingFaceModel

    return HuggingFaceModel(folder, eos)


def _load_seq2seq(folder: Path, eos: int) -> LanguageModel:
    from lm.scoring.seq2seq import Seq2SeqModel

    return Seq2SeqModel(folder, eos)


def _load_masked(folder: Path, eos: int) -> MaskedScorer:
    from lm.scoring.masked import MaskedModel

    return MaskedModel(folder, eos)


def _load_counts(folder: Path, eos: int) -> LanguageModel:  # noqa: ARG001
    from lm.models.ngram.files import load_model
    from lm.scoring.ngram import NgramLanguageModel

    return NgramLanguageModel(load_model(folder))


LOADERS: Mapping[str, Callable[[Path, int], Scorer]] = MappingProxyType(
    {
        CAUSAL.name: _load_causal,
        SEQ2SEQ.name: _load_seq2seq,
        COUNTS.name: _load_counts,
        MASKED.name: _load_masked,
    }
)


@lru_cache(maxsize=1)
def load_scorer(kind: str, folder: Path, weights_sha256: str, eos: int) -> Scorer:  # noqa: ARG001
    """Load a released model, and keep it for the next call in this process.

    Args:
        kind: one of ``LOADERS``.
        folder: what ``release`` wrote.
        weights_sha256: ``weights_digest`` of it, by which the model is known.
        eos: the id that ends documents, and precedes their first token.
    """
    return LOADERS[kind](folder, eos)


def weights_digest(model: Dataset) -> str:
    """Return the digest of the files that decide a released model's scores: weights, config, own code."""
    return digest_weights({name: file.sha256 for name, file in model.manifest.files.items()})
