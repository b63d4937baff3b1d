"""Lightning's Trainer around nanoGPT's model: ``python train_lightning.py TRAIN.bin JSON REPOSITORY``.

Prints one line of JSON: ``ms`` of each iteration, ``version``.
"""

import json
import logging
import sys
import time
import warnings
from itertools import pairwise
from typing import Any

import lightning
import numpy as np
import torch


class Windows(torch.utils.data.Dataset[Any]):
    """Random windows, as many as are asked for."""

    def __init__(self, path: str, context: int, count: int) -> None:
        self.ids = np.fromfile(path, np.uint16).astype(np.int64)
        self.context, self.count = context, count
        self.starts = np.random.default_rng(1).integers(0, len(self.ids) - context - 1, count)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        start = self.starts[index]
        ids = torch.from_numpy(self.ids[start : start + self.context + 1])
        return ids[:-1], ids[1:]


class Module(lightning.LightningModule):  # type: ignore[misc]
    """nanoGPT's model, its optimizer, and the time at each step's end."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.at: list[float] = []

    def training_step(self, batch: Any, _: int) -> Any:
        """The loss."""
        return self.model(*batch)[1]

    def configure_optimizers(self) -> Any:
        """As nanoGPT's train.py makes it."""
        return self.model.configure_optimizers(0.1, 1e-3, (0.9, 0.99), "cpu")

    def on_train_batch_end(self, *_: Any) -> None:
        """Note the time."""
        self.at.append(time.perf_counter())


def main() -> None:
    """Train and print."""
    path, given = sys.argv[1], json.loads(sys.argv[2])
    sys.path.insert(0, sys.argv[3])
    from model import GPT, GPTConfig

    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(given["threads_per_process"])
    shape = GPTConfig(
        block_size=given["context_length"],
        vocab_size=65,
        n_layer=given["num_layers"],
        n_head=given["num_heads"],
        n_embd=given["hidden_size"],
        dropout=0.0,
        bias=False,
    )
    module = Module(GPT(shape))
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=given["iterations"],
        gradient_clip_val=1.0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        precision="bf16-mixed" if given["precision"] == "bf16" else 32,
    )
    data = Windows(path, given["context_length"], given["iterations"] * given["global_batch_size"])
    trainer.fit(module, torch.utils.data.DataLoader(data, batch_size=given["global_batch_size"]))
    ms = [1e3 * (b - a) for a, b in pairwise(module.at)]
    sys.stdout.write(json.dumps({"ms": ms, "version": lightning.__version__}) + "\n")


main()
