"""Tasks of lm-evaluation-harness as suites: its prompts, log-likelihoods and accuracies.

    python -m benchmarks.bench_harness

Runs `tests/suites/test_harness.py` in an environment that has lm-eval: for ARC-Easy with two solved items, WinoGrande,
LAMBADA and HellaSwag over small data, every text that a model is asked to score is the one that lm-eval asks, and every figure
is equal. Exits with pytest's status. The project's own environment is without lm-eval: with the pandas that it brings along,
every process of a run imports pandas.
"""

import subprocess
import sys

from benchmarks.bench_train_evaluator import LM_EVAL
from benchmarks.train_peers import NotMeasured, peer_interpreter

TEST = "tests/suites/test_harness.py"


def main() -> int:
    """Run the test; return the exit status."""
    try:
        python = peer_interpreter(LM_EVAL)
    except NotMeasured as reason:
        print(f"lm-eval was not run: {reason}")
        return 1
    return subprocess.run([str(python), "-m", "pytest", "-q", TEST], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
