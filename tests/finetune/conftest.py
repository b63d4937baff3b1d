"""Fixtures of the tests of training: one thread, processes in this one."""

from tests.lm.conftest import in_process, one_thread

__all__ = ["in_process", "one_thread"]
