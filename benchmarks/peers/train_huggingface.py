"""Hugging Face's Trainer on GPT-2 of nanoGPT's shape: ``python train_huggingface.py TRAIN.bin JSON``.

With ``-`` for the file tokens are drawn; ``device`` may be ``cuda``.

Prints one line of JSON: ``ms`` of each iteration, ``version``, and on a GPU ``mean_ms`` of the
iterations after the first ``warm``, ``compile_seconds`` that those took beyond it, and
``memory_bytes`` at most.
"""

import json
import sys
import tempfile
import time
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import transformers
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments


class Windows(torch.utils.data.Dataset[Any]):
    """Random windows, as many as are asked for."""

    def __init__(self, path: str, context: int, count: int, vocabulary: int) -> None:
        drawn = np.random.default_rng(0).integers(0, vocabulary, 1 << 20)
        self.ids = drawn if path == "-" else np.fromfile(path, np.uint16).astype(np.int64)
        self.context, self.count = context, count
        self.starts = np.random.default_rng(1).integers(0, len(self.ids) - context, count)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        start = self.starts[index]
        ids = torch.from_numpy(self.ids[start : start + self.context])
        return {"input_ids": ids, "labels": ids}


class StepTimer(TrainerCallback):
    """The time at each step's end; a GPU is waited for before the first and after some."""

    def __init__(self, sync_steps: tuple[int, ...]) -> None:
        self.start, self.at, self.waits = 0.0, list[float](), sync_steps

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Note the time."""
        self.start = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Note the time."""
        if len(self.at) + 1 in self.waits:
            torch.cuda.synchronize()
        self.at.append(time.perf_counter())


def main() -> None:
    """Train and print."""
    path, given = sys.argv[1], json.loads(sys.argv[2])
    torch.set_num_threads(given["threads_per_process"])
    config: Any = GPT2Config(
        vocab_size=given.get("vocabulary", 65),
        n_positions=given["context_length"],
        n_embd=given["hidden_size"],
        n_layer=given["num_layers"],
        n_head=given["num_heads"],
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=0,
    )
    gpu, last = given.get("device") == "cuda", given["iterations"]
    warm = given.get("warm", 0)
    clock = StepTimer((warm, last) if gpu else ())
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=given["iterations"],
            per_device_train_batch_size=given["global_batch_size"],
            learning_rate=1e-3,
            lr_scheduler_type="cosine",
            warmup_steps=10,
            weight_decay=0.1,
            adam_beta2=0.99,
            max_grad_norm=1.0,
            optim="adamw_torch_fused" if gpu else "adamw_torch",
            logging_steps=100,
            save_strategy="no",
            report_to="none",
            use_cpu=not gpu,
            torch_compile=gpu,
            dataloader_num_workers=0,
            disable_tqdm=True,
            bf16=given["precision"] == "bf16",
        )  # fmt: skip
        count = given["iterations"] * given["global_batch_size"]
        data = Windows(path, given["context_length"], count, config.vocab_size)
        trainer = Trainer(
            model=GPT2LMHeadModel(config), args=arguments, train_dataset=data, callbacks=[clock]
        )
        trainer.train()
    ms = [1e3 * (b - a) for a, b in pairwise(clock.at)]
    result: dict[str, Any] = {"ms": ms, "version": transformers.__version__}
    if gpu:
        mean = (clock.at[-1] - clock.at[warm - 1]) / (last - warm)
        result |= {"mean_ms": 1e3 * mean, "memory_bytes": torch.cuda.max_memory_allocated()}
        result["compile_seconds"] = clock.at[warm - 1] - clock.start - warm * mean
    sys.stdout.write(json.dumps(result) + "\n")


main()
