"""nanoGPT's checkpoint over a whole split: ``python train_nanogpt_score.py REPOSITORY CKPT VAL.bin``.

Prints the mean nats per token over windows that follow each other, each token predicted once.
"""

import sys

import numpy as np
import torch


@torch.no_grad()
def main() -> None:
    """Score and print."""
    sys.path.insert(0, sys.argv[1])
    from model import GPT, GPTConfig

    saved = torch.load(sys.argv[2], map_location="cpu", weights_only=False)
    model = GPT(GPTConfig(**saved["model_args"])).eval()
    state = {name.removeprefix("_orig_mod."): w for name, w in saved["model"].items()}
    model.load_state_dict(state)
    ids = torch.from_numpy(np.fromfile(sys.argv[3], np.uint16).astype(np.int64))
    context, total = saved["model_args"]["block_size"], 0.0
    for start in range(0, len(ids) - 1, context):
        x, y = ids[start : start + context][: len(ids) - 1 - start], ids[start + 1 :][:context]
        total += model(x[None], y[None])[1].item() * len(y)
    sys.stdout.write(f"{total / (len(ids) - 1)}\n")


main()
