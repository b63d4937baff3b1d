"""The tests of `test_harness.py` and `test_harness_tasks.py`, in an environment that has lm-evaluation-harness."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.environments import LM_EVAL, interpreter

pytestmark = pytest.mark.e2e
TESTS = [Path(__file__).with_name(name) for name in ("test_harness.py", "test_harness_tasks.py")]


def test_tasks_as_suites_are_equal_to_lm_eval(pytestconfig: pytest.Config) -> None:
    python = interpreter(pytestconfig, "lm-eval", LM_EVAL)
    command = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", *map(str, TESTS)]
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}  # nothing is downloaded
    done = subprocess.run(
        command,
        cwd=pytestconfig.rootpath,
        env={**os.environ, **offline},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
