"""Hugging Face's Trainer, with peft's LoRA or without: ``python finetune_trainer.py MODEL ROWS.npz JSON``.

MODEL is the folder of a sequence classifier. ROWS holds ``ids``, int64[n, T], padded on the right by -1, and ``labels``,
int64[n], in the order in which they are trained on. JSON holds ``rank`` (0: all weights are trained), ``alpha``,
``lora_a``, a file of the matrices that LoRA starts from, ``batch``, ``warm`` and ``rates``, the learning rate of each step.
Prints one line of JSON: ``cpu_seconds`` and ``seconds`` after ``warm`` steps, ``losses`` of all steps, ``trained`` weights,
and ``versions``.
"""

import json
import sys
import tempfile
import time
from typing import Any

import numpy as np
import peft
import torch
import transformers
from safetensors.torch import load_file
from transformers import (
    AutoModelForSequenceClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)


class Clock(TrainerCallback):
    """The times at the end of some step and of the last one, and the losses."""

    def __init__(self, warm: int) -> None:
        self.warm, self.steps = warm, 0
        self.at: list[tuple[float, float]] = []
        self.losses: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Note the time."""
        self.steps += 1
        if self.steps == self.warm:
            self.at.append((time.process_time(), time.perf_counter()))

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Note the time."""
        self.at.append((time.process_time(), time.perf_counter()))

    def on_log(self, *_: Any, logs: Any = None, **__: Any) -> None:
        """Note the loss."""
        if logs and "loss" in logs:
            self.losses.append(float(logs["loss"]))


class Examples(torch.utils.data.Dataset[Any]):
    """The rows, without their padding."""

    def __init__(self, rows: Any) -> None:
        self.ids, self.labels = rows["ids"], rows["labels"]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Any:
        row = self.ids[index]
        return row[row >= 0], self.labels[index]


def collate(items: Any) -> Any:
    """Pad a batch to its longest text, as ``DataCollatorWithPadding`` does."""
    longest = max(len(ids) for ids, _ in items)
    ids = np.zeros((len(items), longest), np.int64)
    mask = np.zeros((len(items), longest), np.int64)
    for row, (own, _) in enumerate(items):
        ids[row, : len(own)], mask[row, : len(own)] = own, 1
    labels = np.array([label for _, label in items])
    return {
        "input_ids": torch.from_numpy(ids),
        "attention_mask": torch.from_numpy(mask),
        "labels": torch.from_numpy(labels),
    }


class InOrder(Trainer):
    """A trainer that takes the examples in the order in which they are, and its learning rates from a list."""

    rates: Any

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Return the schedule; after the last step it is asked for one rate more."""
        rates = [*self.rates, 0.0]
        assert len(rates) == num_training_steps + 1
        peak = self.args.learning_rate
        own: Any = optimizer or self.optimizer
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(own, lambda step: rates[step] / peak)
        return self.lr_scheduler

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        examples: Any = dataset or self.train_dataset
        return torch.utils.data.SequentialSampler(examples)


def start_alike(model: Any, lora_a: Any) -> None:
    """Give peft's adapters the random matrices of ours, in which query, key and value are stacked."""
    for number, block in enumerate(model.bert.encoder.layer):
        parts = {
            "qkv": [getattr(block.attention.self, name) for name in ("query", "key", "value")],
            "out": [block.attention.output.dense],
            "up": [block.intermediate.dense],
            "down": [block.output.dense],
        }
        for name, adapted in parts.items():
            start = lora_a[f"base.blocks.{number}.{name}.lora_a"].chunk(len(adapted))
            for layer, own in zip(adapted, start, strict=True):
                layer.lora_A["default"].weight.data.copy_(own)


def main() -> None:
    """Train and print."""
    rows, given = np.load(sys.argv[2]), json.loads(sys.argv[3])
    torch.set_num_threads(1)
    torch.manual_seed(1)
    model: Any = AutoModelForSequenceClassification.from_pretrained(sys.argv[1])
    # Equal weights are trained: ours has no token types, and BertModel never updates the row of the token it pads with,
    # which here is the end of text, the first token of each text.
    model.bert.embeddings.token_type_embeddings.requires_grad_(False)
    model.get_input_embeddings().padding_idx = None
    if given["rank"]:
        with_lora = peft.get_peft_model(
            model,
            peft.LoraConfig(
                task_type="SEQ_CLS",
                r=given["rank"],
                lora_alpha=given["alpha"],
                lora_dropout=0.0,
                # The linear layers of the blocks; the pooler and the classifier are trained whole, as here.
                target_modules=r".*encoder\.layer\..*(query|key|value|dense)",
                modules_to_save=["classifier", "pooler"],
            ),
        )
        start_alike(model, load_file(given["lora_a"]))
        model = with_lora
    clock = Clock(given["warm"])
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=len(given["rates"]),
            per_device_train_batch_size=given["batch"],
            learning_rate=max(given["rates"]),
            weight_decay=0.0,
            adam_beta2=0.999,
            max_grad_norm=1.0,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
        )
        trainer = InOrder(
            model=model,
            args=arguments,
            train_dataset=Examples(rows),
            data_collator=collate,
            callbacks=[clock],
        )
        trainer.rates = given["rates"]
        trainer.train()
    (cpu, wall), (cpu_end, wall_end) = clock.at
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    answer = {
        "cpu_seconds": cpu_end - cpu,
        "seconds": wall_end - wall,
        "losses": clock.losses,
        "trained": trained,
        "versions": f"transformers {transformers.__version__}, peft {peft.__version__}",
    }
    sys.stdout.write(json.dumps(answer) + "\n")


main()
