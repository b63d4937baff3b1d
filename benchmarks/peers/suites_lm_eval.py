"""lm-evaluation-harness on suites: ``python suites_lm_eval.py FOLDER TASKS``.

TASKS holds a YAML file per task. Prints one line of JSON: by task its metrics, and for each item the log-likelihoods of
what was scored; and the ``version``.
"""

import json
import os
import sys
from importlib.metadata import version
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["HF_HOME"] = str(Path(sys.argv[2]) / "hf")

from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager


def main() -> None:
    """Score and print."""
    folder, tasks = sys.argv[1:3]
    names = sorted(path.stem for path in Path(tasks).glob("*.yaml"))
    result = simple_evaluate(
        model="hf",
        model_args={"pretrained": folder, "dtype": "float32"},
        tasks=names,
        task_manager=TaskManager(include_path=tasks, include_defaults=False),
        device="cpu",
        batch_size=8,
        bootstrap_iters=0,
        log_samples=True,
    )
    answer = {
        name: {
            "metrics": result["results"][name],
            "items": {
                sample["doc"]["id"]: [float(pair[0]) for pair in sample["filtered_resps"]]
                for sample in result["samples"][name]
            },
        }
        for name in names
    }
    sys.stdout.write(
        "\n" + json.dumps({**answer, "version": version("lm_eval")}, default=str) + "\n"
    )


main()
