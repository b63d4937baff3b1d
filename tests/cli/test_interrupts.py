"""An interrupt ends a command although Python or a library would swallow it."""

import json
import os
import subprocess
import sys

import pytest

from infra.log_format import ENV_VAR, JSON
from tests.limits import WAIT_TIMEOUT_S

# The tests themselves may run in the background, where interrupts are ignored: each program says how it starts.
# It raises, and something between it and the command swallows that.
SWALLOW = """
import os, signal
from cli.interrupts import end_on_interrupt
signal.signal(signal.SIGINT, signal.{handler})
end_on_interrupt()
try:
    os.kill(os.getpid(), signal.SIGINT)
except BaseException: pass
print("went on")
"""
# In a weak reference's callback, nothing that is raised gets out.
IGNORE = """
import os, signal, time, weakref
from cli.interrupts import clean_up_on_interrupt, end_on_interrupt
signal.signal(signal.SIGINT, signal.default_int_handler)
class Thing: pass
def interrupt(_): os.kill(os.getpid(), signal.SIGINT)
end_on_interrupt()
try:
    with clean_up_on_interrupt():
        thing = Thing()
        reference = weakref.ref(thing, interrupt)
        del thing
        while True: time.sleep(1)
except KeyboardInterrupt: print("cleaned up")
os.kill(os.getpid(), signal.SIGINT)
"""
# A library makes another error of it, or goes on.
REPLACE = """
import os, signal
from cli.interrupts import clean_up_on_interrupt, end_on_interrupt
signal.signal(signal.SIGINT, signal.default_int_handler)
end_on_interrupt()
try:
    with clean_up_on_interrupt():
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except BaseException as error:
            {then}
except KeyboardInterrupt: print("interrupted")
"""


def run(program: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        capture_output=True,
        text=True,
        timeout=WAIT_TIMEOUT_S,
        env=os.environ | env,
    )


def test_an_interrupt_ends_a_command_at_once_with_one_line() -> None:
    ended = run(SWALLOW.format(handler="default_int_handler"))
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "error: interrupted; run the same command again to resume\n"


def test_it_ends_although_nobody_reads_standard_error() -> None:
    program = "import os; reader, writer = os.pipe(); os.close(reader); os.dup2(writer, 2)"
    ended = run(f"{program}\n{SWALLOW.format(handler='default_int_handler')}")
    assert (ended.returncode, ended.stdout) == (1, "")


def test_its_line_is_json_where_lines_are() -> None:
    ended = run(SWALLOW.format(handler="default_int_handler"), **{ENV_VAR: JSON})
    line = json.loads(ended.stderr)
    assert (line["level"], "interrupted" in line["message"]) == ("error", True)


def test_a_process_in_the_background_goes_on_ignoring_interrupts() -> None:
    ended = run(SWALLOW.format(handler="SIG_IGN"))
    assert (ended.returncode, ended.stdout) == (0, "went on\n")


def test_work_is_cleaned_up_although_python_ignored_the_interrupt() -> None:
    ended = run(IGNORE)
    assert (ended.returncode, ended.stdout) == (1, "cleaned up\n")
    assert "Exception ignored" not in ended.stderr


@pytest.mark.parametrize("then", ["pass", "raise ValueError from error"])
def test_an_interrupt_that_became_something_else_is_raised_at_the_end(then: str) -> None:
    ended = run(REPLACE.format(then=then))
    assert (ended.returncode, ended.stdout) == (0, "interrupted\n")
