"""Hugging Face's Trainer on BERT, as their run_mlm.py: ``python train_run_mlm.py ROWS.npy HELD.npz JSON``.

ROWS holds the rows of tokens, int64[n, C]; HELD the held-out ``inputs``, ``targets`` and ``positions``.
Prints one line of JSON: ``cpu_seconds`` and ``seconds`` of training after ``warm`` steps, ``loss`` in nats
per held-out prediction, and ``version``.
"""

import json
import sys
import tempfile
import time
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, models
from transformers import (
    BertConfig,
    BertForMaskedLM,
    DataCollatorForLanguageModeling,
    PreTrainedTokenizerFast,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)


class Clock(TrainerCallback):
    """The times at the end of one step and of the last one."""

    def __init__(self, warm: int) -> None:
        self.warm, self.steps = warm, 0
        self.at: list[tuple[float, float]] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Note the time."""
        self.steps += 1
        if self.steps == self.warm:
            self.at.append((time.process_time(), time.perf_counter()))

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Note the time."""
        self.at.append((time.process_time(), time.perf_counter()))


class Windows(torch.utils.data.Dataset[Any]):
    """The rows, in the order that they are given in."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        return {"input_ids": self.rows[index].tolist()}


def main() -> None:
    """Train, score the held-out text and print."""
    rows, held, given = np.load(sys.argv[1]), np.load(sys.argv[2]), json.loads(sys.argv[3])
    torch.set_num_threads(1)
    torch.manual_seed(given["seed"])
    vocab_size = given["vocab_size"] + 1
    words = Tokenizer(models.WordLevel({f"t{i}": i for i in range(vocab_size)}, unk_token="t0"))
    tokenizer: Any = PreTrainedTokenizerFast(
        tokenizer_object=words, mask_token=f"t{vocab_size - 1}", pad_token="t0", eos_token="t0"
    )
    config: Any = BertConfig(
        vocab_size=vocab_size,
        hidden_size=given["hidden_size"],
        num_hidden_layers=given["num_layers"],
        num_attention_heads=given["num_heads"],
        intermediate_size=4 * given["hidden_size"],
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        max_position_embeddings=rows.shape[1],
        pad_token_id=0,
    )
    clock = Clock(given["warm"])
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=given["iterations"],
            per_device_train_batch_size=given["global_batch_size"],
            learning_rate=given["lr"],
            lr_scheduler_type="cosine",
            warmup_steps=given["warmup"],
            weight_decay=given["weight_decay"],
            adam_beta2=given["adam_beta2"],
            max_grad_norm=1.0,
            logging_steps=100_000,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            bf16=given["precision"] == "bf16",
            disable_tqdm=True,
            seed=given["seed"],
        )
        trainer = Trainer(
            model=BertForMaskedLM(config),
            args=arguments,
            train_dataset=Windows(rows),
            data_collator=DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15),
            callbacks=[clock],
        )
        trainer.train()
    model: Any = trainer.model
    model.eval()
    nats = 0.0
    with torch.no_grad():
        for at in range(0, len(held["inputs"]), 32):
            inputs, targets, positions = (
                torch.from_numpy(held[name][at : at + 32])
                for name in ("inputs", "targets", "positions")
            )
            logits = model(inputs).logits
            index = positions[..., None].expand(-1, -1, logits.shape[-1])
            log_p = torch.log_softmax(logits.gather(1, index), -1)
            nats -= float(log_p.gather(-1, targets[..., None]).sum())
    (cpu, wall), (cpu_end, wall_end) = clock.at
    answer = {
        "cpu_seconds": cpu_end - cpu,
        "seconds": wall_end - wall,
        "loss": nats / held["targets"].size,
        "version": transformers.__version__,
    }
    sys.stdout.write(json.dumps(answer) + "\n")


main()
