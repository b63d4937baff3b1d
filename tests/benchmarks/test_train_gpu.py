import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import train_gpu_peers as peers
from benchmarks.train_gpu_report import Report
from benchmarks.train_peers import NotMeasured
from tests.limits import WAIT_TIMEOUT_S

SMALL = peers.Size(12, 768, 12, 1024, 50_304)
H100 = {"name": "H100", "torch": "2", "datasheet": 989e12, "matmul": 798e12, "memory": 80 << 30}
# The lines of nanoGPT's bench.py that are changed.
BENCH = """import torch
    n_layer = 12, n_head = 12, n_embd = 768, # size of the model
        if stage == 1:
            print(f"time per iteration: {dt/num_steps*1000:.4f}ms")
"""


def test_operations_are_counted_in_the_same_way_for_all() -> None:
    """GPT-2 124 M with a vocabulary of 50,304: 854.7 million operations per token."""
    run = peers.Run(65_536, 0.1, 30.0, 40e9, {})
    assert Report(H100).speed(SMALL, run) == pytest.approx(854.7e6 * 655_360, rel=1e-4)
    assert Report(H100).peak_fraction(SMALL, run) == pytest.approx(0.5664, rel=1e-3)


def test_only_a_missed_target_fails(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report(H100)
    report.check_target("fast", None, bool, "{}")
    report.check_target("right", 0.41, lambda value: value >= 0.4, "{:.0%}")
    assert report.end() == 0
    report.check_target("small", 1.5, lambda value: value <= 1.48, "{}")
    assert report.end() == 1
    output = capsys.readouterr().out
    assert "not measured" in output
    assert "MISSED" in output


def test_a_peers_script_is_patched_in_known_places_only(tmp_path: Path) -> None:
    script = tmp_path / "bench.py"
    script.write_text(BENCH)
    changes = {r"n_layer = \d+, n_head = \d+, n_embd = \d+": "n_layer = 24", r"\Z": "end\n"}
    expected = BENCH.replace("n_layer = 12, n_head = 12, n_embd = 768", "n_layer = 24") + "end\n"
    assert peers.patch_script(script, changes) == expected
    with pytest.raises(NotMeasured, match=r"bench\.py"):
        peers.patch_script(script, {"no such line": ""})
    with pytest.raises(NotMeasured, match=r"other\.py"):
        peers.patch_script(tmp_path / "other.py", {})


def test_the_output_of_peers_is_parsed() -> None:
    bench = peers.parse_bench("0/10 loss\nstage 0 33.0 10\nstage 1 6.0 20\npeak 1000\n", 600)
    assert (bench.seconds, bench.compiled, bench.peak) == (0.3, 30.0, 1000)
    clocks = "".join(f"clock {at}\n" for at in (0.0, 60.0, 62.0, 63.0, 64.0, 65.0))
    modded = peers.parse_modded(clocks + "peak 7\n")
    assert (modded.seconds, modded.compiled, modded.peak) == (1.0, 60.0, 7)
    for parse in (lambda text: peers.parse_bench(text, 1), peers.parse_modded):
        with pytest.raises(NotMeasured):
            parse("loss nan\n")


def test_a_token_file_has_the_layout_of_modded_nanogpt(tmp_path: Path) -> None:
    peers.write_shard(tmp_path / "a.bin", 100)
    data = (tmp_path / "a.bin").read_bytes()
    assert np.frombuffer(data, np.int32, 3).tolist() == [20240520, 1, 100]
    assert len(np.frombuffer(data, np.uint16, offset=1024)) == 100


def test_the_error_says_why_a_run_has_no_metrics() -> None:
    python = [sys.executable, "-c"]
    assert peers.run_command([*python, "print('x')"], WAIT_TIMEOUT_S) == "x\n"
    with pytest.raises(peers.OutOfMemory):
        peers.run_command(
            [*python, "raise SystemExit('torch.OutOfMemoryError: CUDA')"], WAIT_TIMEOUT_S
        )
    with pytest.raises(NotMeasured, match="no_such"):
        peers.run_command([*python, "import no_such"], WAIT_TIMEOUT_S)
    with pytest.raises(NotMeasured, match="1 s"):
        peers.run_command([*python, "import time; time.sleep(30)"], 1.0)
