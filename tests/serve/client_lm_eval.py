"""lm-eval's `local-completions`: ``python client_lm_eval.py URL MODEL FOLDER PAIRS``.

FOLDER has the tokenizer, PAIRS is JSON: pairs of (context, continuation). Prints log-likelihood and whether it is greedy
for each of them, and the log-likelihood of each context as a text.
"""

import json
import os
import sys

os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"

from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model


def main() -> None:
    """Score and print."""
    url, model, folder, given = sys.argv[1:]
    pairs = json.loads(given)
    lm = get_model("local-completions").create_from_arg_string(
        f"model={model},base_url={url}/completions,tokenizer_backend=huggingface,tokenizer={folder},"
        "num_concurrent=2,max_length=64",
        {"batch_size": 4},
    )
    scored = lm.loglikelihood(
        [Instance("loglikelihood", {}, tuple(pair), number) for number, pair in enumerate(pairs)]
    )
    texts = lm.loglikelihood_rolling(
        [
            Instance("loglikelihood_rolling", {}, (text,), number)
            for number, (text, _) in enumerate(pairs)
        ]
    )
    sys.stdout.write("\n" + json.dumps({"pairs": scored, "texts": texts}) + "\n")


if __name__ == "__main__":
    main()
