"""Make a model of word vectors: the frame of the families' own training."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from infra.compute.phases import PhaseRunner
from infra.dataset.dataset import Dataset, open_dataset
from infra.dataset.manifest import Counts, DatasetNotFoundError
from infra.dataset.stage import Context, DatasetSpec, Stage, commit_files
from infra.dataset.work_folder import build_in_work_folder
from infra.formats.megatron import TRAIN
from infra.store.storage import Storage
from lm.config.entry import SeededEntry, TrainEntry
from lm.models.embedding.corpus import Corpus
from lm.models.embedding.files import WordVectors
from lm.models.embedding.sections import EmbeddingSection

Train = Callable[[PhaseRunner, Corpus], tuple[WordVectors, dict[str, Any]]]


def words_spec(
    stage: Stage,
    ctx: Context,
    config: SeededEntry,
    model: EmbeddingSection,
    settings: dict[str, Any],
    tokens: Dataset,
) -> DatasetSpec:
    """Describe a model that is trained on the words of token shards."""
    key = {
        "seed": config.model_seed(ctx.seed),
        "family": config.family,
        "model": model.to_json(),
        **settings,
    }
    return DatasetSpec(stage, config.name, key, (tokens,))


def build_word_vectors(
    ctx: Context,
    spec: DatasetSpec,
    config: TrainEntry,
    model: EmbeddingSection,
    tokens: Dataset,
    partitioning: object,
    passes: int,
    train: Train,
) -> Dataset:
    """Train in a work folder, and commit the model with what every model's manifest holds.

    Args:
        ctx: the run.
        spec: the data set.
        config: the entry.
        model: its section.
        tokens: the token shards.
        partitioning: as of ``build_in_work_folder``.
        passes: how often the text is read.
        train: returns the model and statistics of its family, ``epochs`` among them.
    """
    try:
        return open_dataset(ctx.storage.subdir(*spec.folder.split("/")))
    except DatasetNotFoundError:
        pass

    def train_and_commit(work: Storage) -> Dataset:
        runner = PhaseRunner(ctx.cluster, ctx.reporter, work, spec.stage.name)
        vectors, stats = train(runner, Corpus(work, tokens, model, config.name))
        with tempfile.TemporaryDirectory(prefix="gristmill-vectors-") as scratch:
            folder = Path(scratch)
            vectors.save(folder)
            (folder / "tokenizer.json").write_bytes(tokens.read("tokenizer.json"))
            documents = tokens.stats["documents"][TRAIN]
            read_tokens = passes * tokens.stats["tokens"][TRAIN]
            ngrams = 0 if vectors.ngrams is None else vectors.ngrams.size
            return commit_files(
                ctx,
                spec,
                {path.name: path for path in sorted(folder.iterdir())},
                counts=Counts(documents, documents),
                stats={
                    "parameters": vectors.vectors.size + ngrams,
                    "vocab_size": len(vectors.vocabulary.words),
                    "vector_size": model.vector_size,
                    "words": sum(vectors.vocabulary.counts),
                    "tokens": read_tokens,
                    "steps": 1,
                    "init_from": None,
                    **stats,
                    **runner.training_stats(read_tokens),
                },
            )

    return build_in_work_folder(ctx, spec, partitioning, train_and_commit)
