"""lm-evaluation-harness on an exported folder: ``python evaluate_lm_eval.py FOLDER REQUESTS.json``.

REQUESTS holds ``texts`` and ``pairs`` of (prompt, continuation). Prints one line of JSON:
log-likelihoods of the texts, ``[log-likelihood, greedy]`` of the pairs, and the ``version``.
"""

import json
import os
import sys
from importlib.metadata import version
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"

from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM


def main() -> None:
    """Score and print."""
    given = json.loads(Path(sys.argv[2]).read_text())
    model = HFLM(pretrained=sys.argv[1], device="cpu", dtype="float32", batch_size=4)
    texts = [
        Instance("loglikelihood_rolling", {}, (text,), number)
        for number, text in enumerate(given["texts"])
    ]
    pairs = [
        Instance("loglikelihood", {}, tuple(pair), number)
        for number, pair in enumerate(given["pairs"])
    ]
    answer = {
        "texts": [float(value) for value in model.loglikelihood_rolling(texts)],
        "pairs": [[float(value), bool(greedy)] for value, greedy in model.loglikelihood(pairs)],
        "version": version("lm_eval"),
    }
    sys.stdout.write(json.dumps(answer) + "\n")


main()
