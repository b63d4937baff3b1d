"""The tests of `test_harness.py`, in an environment that has lm-evaluation-harness."""

import subprocess
from pathlib import Path

import pytest

from tests.environments import LM_EVAL, interpreter

pytestmark = pytest.mark.e2e
TESTS = Path(__file__).with_name("test_harness.py")


def test_tasks_as_suites_are_equal_to_lm_eval(pytestconfig: pytest.Config) -> None:
    python = interpreter(pytestconfig, "lm-eval", LM_EVAL)
    command = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", str(TESTS)]
    done = subprocess.run(
        command, cwd=pytestconfig.rootpath, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
