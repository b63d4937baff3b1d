"""transformers' ``generate`` on one thread: ``python serve_generate.py FOLDER``.

Reads a JSON object per line with ``ids`` and ``tokens``, and answers with ``ids`` (the new ones), ``seconds`` and ``cpu_s``.
"""

import json
import sys
import time

import torch
from transformers import AutoModelForCausalLM
from transformers.utils import logging


def main() -> None:
    """Answer."""
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32).eval()
    for line in sys.stdin:
        question = json.loads(line)
        ids = torch.tensor([question["ids"]])
        length = question["tokens"]
        start, cpu_start = time.perf_counter(), time.process_time()
        with torch.inference_mode():
            output = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=length,
                min_new_tokens=length,
            )
        seconds, cpu_s = time.perf_counter() - start, time.process_time() - cpu_start
        answer = {"ids": output[0, ids.shape[1] :].tolist(), "seconds": seconds, "cpu_s": cpu_s}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
