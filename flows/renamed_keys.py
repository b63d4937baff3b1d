"""Keys of earlier recipes, refused with their new name. ``*`` is an entry of a list or a mapping."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_TRAIN_KEYS = {
    "layout": "model.architecture",
    "layers": "model.num_layers",
    "width": "model.hidden_size",
    "heads": "model.num_heads",
    "kv_heads": "model.num_kv_heads",
    "hidden": "model.ffn_size",
    "context": "model.context_length",
    "tied": "model.tie_embeddings",
    "bias": "model.bias",
    "start_from": "init_from",
    "tokens": "data.train_tokens",
    "batch": "data.global_batch_size",
    "micro_batch": "data.micro_batch_size",
    "packing": "data.packing",
    "mixture": "data.mixture",
    "shuffle_tokens": "data.shuffle_window_tokens",
    "cache_bytes": "data.shard_cache_bytes",
    "validation_tokens": "data.validation_tokens",
    "optimizer": "optim.optimizer",
    "learning_rate": "optim.lr",
    "embedding_ratio": "optim.embedding_lr_multiplier",
    "schedule": "optim.schedule",
    "cooldown": "optim.decay_fraction",
    "min_ratio": "optim.min_lr_fraction",
    "warmup": "optim.warmup_fraction",
    "weight_decay": "optim.weight_decay",
    "decay_embeddings": "optim.weight_decay_embeddings",
    "l1": "optim.l1",
    "l2": "optim.l2",
    "dropout": "optim.dropout",
    "label_smoothing": "optim.label_smoothing",
    "ema": "optim.ema_decay",
    "patience": "optim.early_stopping_patience",
    "min_delta": "optim.min_delta",
    "spike": "optim.loss_spike_sigma",
    "betas": "optim.adam_betas",
    "momentum": "optim.muon_momentum",
    "clip": "optim.max_grad_norm",
    "processes": "run.num_processes",
    "threads": "run.threads_per_process",
    "nodes": "run.num_nodes",
    "rendezvous": "run.rendezvous",
    "device": "run.device",
    "precision": "run.precision",
    "parallel": "run.data_parallel",
    "recompute": "run.activation_checkpointing",
    "compile": "run.compile",
    "deterministic": "run.deterministic",
    "validation_every": "run.validation_interval",
    "checkpoint_every": "run.checkpoint_interval",
    "log_every": "run.log_interval",
    "keep": "run.keep_last",
    "keep_every": "run.keep_interval",
    "checkpoints": "run.checkpoint_url",
    "store_patience": "run.storage_timeout",
    "restarts": "run.max_restarts",
    "branches": "run.max_rollbacks",
    "mlflow": "run.mlflow_tracking_uri",
}

RENAMED_KEYS = {
    "cluster.args": "cluster.cluster_kwargs",
    "cluster.class": "cluster.cluster_class",
    "cluster.memory": "cluster.memory_limit",
    "sources.*.refresh": "sources.*.recrawl",
    "sources.*.unwrap": "sources.*.unwrap_lines",
    "extract.memory": "extract.max_memory",
    "extract.timeout": "extract.max_cpu_seconds",
    "annotate.language_characters": "annotate.lid_max_chars",
    "dedup.unit": "dedup.shingle_unit",
    "dedup.languages.*.unit": "dedup.languages.*.shingle_unit",
    "dedup.recall": "dedup.target_recall",
    "dedup.hashes": "dedup.max_permutations",
    "dedup.verify": "dedup.verification",
    "dedup.bucket": "dedup.exhaustive_bucket_size",
    "dedup.neighbours": "dedup.neighbors",
    "dedup.cluster_pairs": "dedup.exhaustive_cluster_size",
    "dedup.memory": "dedup.partition_memory",
    "select.quality": "select.quality_filters",
    "select.rules": "select.thresholds",
    "select.overrides": "select.per_source",
    "select.per_source.*.quality": "select.per_source.*.quality_filters",
    "select.per_source.*.rules": "select.per_source.*.thresholds",
    "select.survivor": "select.prefer",
    "select.one_per_url": "select.dedup_urls",
    "select.lines": "select.line_dedup",
    "select.line_dedup.documents": "select.line_dedup.min_documents",
    "select.substrings": "select.substring_dedup",
    "select.substring_dedup.words": "select.substring_dedup.min_run_words",
    "select.substring_dedup.max_share": "select.substring_dedup.max_duplicate_fraction",
    "select.max_source_loss": "select.max_source_duplicate_fraction",
    "tokenize.style": "tokenize.pretokenizer",
    "tokenize.normalisation": "tokenize.normalization",
    "tokenize.sample_bytes": "tokenize.train_bytes",
    "tokenize.distinct_words": "tokenize.max_distinct_words",
    "tokenize.validation": "tokenize.validation_fraction",
    **{f"train.*.{old}": f"train.*.{new}" for old, new in _TRAIN_KEYS.items()},
    "evaluate.samples": "evaluate.num_samples",
    "evaluate.sample_tokens": "evaluate.max_new_tokens",
    "evaluate.ngram_tokens": "evaluate.baseline_max_tokens",
}


def find_renamed_keys(recipe: Mapping[str, Any]) -> Iterator[str]:
    """Yield a message for every key of a raw recipe that has a new name."""
    for old, new in RENAMED_KEYS.items():
        for labels in _match(recipe, old.split(".")):
            yield f"{_fill(old, labels)} was renamed to {_fill(new, labels)}"


def _match(value: Any, keys: Sequence[str]) -> Iterator[list[str]]:
    """Yield, for every place that the keys name, the labels of the entries passed on the way."""
    if not keys:
        yield []
    elif keys[0] != "*":
        if isinstance(value, Mapping) and keys[0] in value:
            yield from _match(value[keys[0]], keys[1:])
    else:
        for label, entry in _entries(value):
            yield from ([label, *rest] for rest in _match(entry, keys[1:]))


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from ((str(key), entry) for key, entry in value.items())
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for index, entry in enumerate(value):
            name = entry.get("name") if isinstance(entry, Mapping) else None
            yield str(index if name is None else name), entry


def _fill(path: str, labels: Sequence[str]) -> str:
    rest = iter(labels)
    return ".".join(next(rest) if key == "*" else key for key in path.split("."))
