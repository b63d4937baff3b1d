"""The training runs behind one fine-tuned model: one, or one per learning rate, or per fold."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa

from infra.dataset.dataset import Dataset
from infra.dataset.stage import DatasetSpec
from infra.errors import UserError
from lm.config.finetune import BASE_WEIGHTS, FinetuneConfig, FinetuneModelConfig
from lm.data.example_loader import TRAIN_ROWS, VALIDATION_ROWS
from lm.launch.rollback import TrainingRun, train_with_rollback
from lm.launch.torchrun import TrainingConfigError
from lm.launch.work_folder import checkpoint_url, fixed_config
from lm.models.heads.config import HeadConfig, describe, parse
from lm.train.job import TrainJob
from tasks.finetune.base import Base
from tasks.finetune.entry import Variant
from tasks.finetune.head import make_head

if TYPE_CHECKING:
    from tasks.finetune.encode import EncodedExamples, Encoding

log = logging.getLogger(__name__)

Report = Callable[[int, int, str, Mapping[str, float] | None], None]


@dataclass(frozen=True)
class Outcome:
    """A run that has ended.

    Attributes:
        run: where its files are.
        lr: its learning rate.
        result: the launcher's.
    """

    run: TrainingRun
    lr: float
    result: Mapping[str, Any]

    @property
    def validation_loss(self) -> float | None:
        """The loss of the weights that were kept, in nats per target."""
        line = self.result["line"]
        loss = line.get("best_validation_loss", line.get("validation_loss"))
        return None if loss is None else float(loss)


@dataclass
class FinetuningRuns:
    """The runs of one model.

    Attributes:
        spec: the data set that is made.
        variant: the model.
        seed: of its runs.
        base: what it starts from.
        examples: all examples of the entry.
        train: the training examples of this model.
        validation: the validation examples.
        folder: of the data set's work; each run has one below it.
        report: receives steps done, all steps, a message and values.
    """

    spec: DatasetSpec
    variant: Variant
    seed: int
    base: Base
    examples: Dataset
    train: pa.Table
    validation: pa.Table
    folder: Path
    report: Report
    truncated: int = 0
    over_long: int = 0
    head: HeadConfig | None = field(init=False)

    def __post_init__(self) -> None:
        """Make the head and the encoder."""
        entry = self.variant.entry
        self.head = make_head(entry, self.examples.stats, self.train, self.base.eos_id)

    @property
    def max_length(self) -> int:
        """Maximum tokens of an example."""
        longest = int(self.base.model_config["context_length"])
        return min(longest, self.variant.entry.model.max_length or longest)

    def search(self) -> list[Outcome]:
        """Train with every learning rate of the grid; return the outcomes, the best one first."""
        entry = self.variant.entry
        rates = entry.optim.lr_grid or (entry.optim.lr,)
        encoded = self.encode(self.train), self.encode(self.validation)
        self.truncated, self.over_long = encoded[0].truncated, encoded[0].over_long
        if not len(encoded[0].rows):
            raise UserError(
                f"{entry.field}.model.max_length: no training example fits into {self.max_length} tokens"
            )
        outcomes = []
        for number, rate in enumerate(rates):
            run = self.prepare(f"lr{number}", rate, encoded[0], encoded[1])
            title = f"lr {rate:g}: " if len(rates) > 1 else ""
            try:
                outcomes.append(self.train_one(run, rate, number, len(rates), title))
            except TrainingConfigError:  # such rates are what a grid is there to find
                if not outcomes and rate == rates[-1]:
                    raise
                log.warning("%s: the run with lr %g diverged; it is left out", entry.field, rate)
        if len(rates) == 1:
            return outcomes
        if not len(encoded[1].rows):
            raise UserError(
                f"{entry.field}.optim.lr_grid: no validation example fits into {self.max_length} tokens"
            )
        return sorted(outcomes, key=lambda outcome: cast("float", outcome.validation_loss))

    def _model_config(self) -> FinetuneModelConfig:
        """Return which weights are updated: all of a model from random ones."""
        config = self.variant.entry.model
        if not self.variant.from_scratch:
            return config
        return config.model_copy(update={"lora": None, "freeze": None})

    @cached_property
    def encoding(self) -> "Encoding":
        """How examples become rows."""
        from lm.objectives.text_rows import TextEncoder
        from tasks.finetune.encode import Encoding, find_added_tokens

        task, base = self.variant.entry.task_name, self.base
        encoder = TextEncoder(base.tokenizer, base.eos_id, ends_text=base.ends_text)
        added = find_added_tokens(task, encoder, int(base.model_config["vocab_size"]))
        return Encoding(task, encoder, self.head, self.max_length, base.is_encoder_decoder, added)

    def encode(self, table: pa.Table) -> "EncodedExamples":
        """Encode examples with the base's tokenizer."""
        from tasks.finetune.encode import encode_examples

        return encode_examples(table, self.encoding)

    def prepare(
        self, label: str, rate: float, train: "EncodedExamples", validation: "EncodedExamples"
    ) -> TrainingRun:
        """Write the rows of a run into its folder; return the run."""
        entry, folder = self.variant.entry, self.folder / f"{self.folder.name}-{label}"
        folder.mkdir(parents=True, exist_ok=True)
        for name, encoded in ((TRAIN_ROWS, train), (VALIDATION_ROWS, validation)):
            np.save(folder / name, encoded.rows)
        examples = len(train.rows)
        run = entry.run
        if "validation_interval" not in run.model_fields_set:  # once per epoch
            per_epoch = max(1, examples // entry.optim.batch_size)
            run = run.model_copy(update={"validation_interval": per_epoch})
        starts_from_file = self.base.folder is not None and not self.variant.from_scratch
        if starts_from_file:
            self.base.write_weights(folder / BASE_WEIGHTS)
        sizes, _ = parse(self.base.model_config)
        config = FinetuneConfig.model_validate(
            {
                "name": self.variant.name,
                "task": entry.task_name,
                "model": self._model_config(),
                "optim": entry.optim.model_copy(update={"lr": rate, "lr_grid": ()}),
                "run": run,
                "architecture": describe(sizes, self.head),
                "eos_id": self.base.eos_id,
                "added_tokens": dict(self.encoding.added_tokens),
                "fim_fraction": getattr(entry, "fim_fraction", 0.0),
                "max_length": self.max_length,
                "examples": examples,
                "starts_from_file": starts_from_file,
            }
        )
        key = {
            **fixed_config(self.spec),
            "inputs": [i.content for i in self.spec.inputs],
            "lr": rate,
        }
        base = self.base.model
        job = TrainJob(
            config,
            self.seed,
            self.examples.storage,
            folder,
            {**key, "run": label, "external": list(self.spec.external_inputs)},
            None if self.variant.from_scratch or base is None else base.storage,
            checkpoint_url(config, folder),
        )
        return TrainingRun(job)

    def train_one(
        self, run: TrainingRun, rate: float, number: int, count: int, title: str
    ) -> Outcome:
        """Train to the end, or resume it.

        Args:
            run: of ``prepare``.
            rate: its learning rate.
            number: of the run, from 0, among ``count`` runs, for the progress.
            count: number of runs.
            title: begins messages.
        """
        steps = run.job.config.steps

        def on_metrics(line: dict[str, Any]) -> None:
            values = {k: float(v) for k, v in line.items() if isinstance(v, int | float)}
            message = f"{title}loss {line['loss']:.3f}"
            if "validation_loss" in line:
                message += f", validation {line['validation_loss']:.3f}"
            self.report(number * steps + int(line["step"]), count * steps, message, values)

        self.report(number * steps, count * steps, f"{title}starting processes", None)
        result = train_with_rollback(
            run,
            on_metrics,
            lambda rollback: self.report(
                number * steps + (rollback.from_step or 0), count * steps, str(rollback), None
            ),
        )
        return Outcome(run, rate, result)
