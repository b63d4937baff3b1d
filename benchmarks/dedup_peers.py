"""Other programs that deduplicate: each in a virtual environment of its own, pinned, in the cache.

A peer is run by a small script of ``benchmarks/peers`` in the peer's interpreter, over the same
Parquet files. What cannot be installed or fails is reported as not measured, with the reason.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.dedup_text import bench_root

SCRIPTS = Path(__file__).parent / "peers"
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS", "POLARS_MAX_THREADS"), "1"
)
MAX_ERROR_CHARS = 400  # characters of an error that are shown


class NotMeasured(Exception):
    """A peer was not measured; the message says why."""


@dataclass(frozen=True)
class Peer:
    """A program and how it is run.

    Attributes:
        name: what tables call it.
        script: the file in ``benchmarks/peers``.
        packages: what pip installs.
        min_python: the oldest Python it runs on.
        options: arguments of the script.
    """

    name: str
    script: str
    packages: tuple[str, ...]
    min_python: tuple[int, int] = (3, 11)
    options: tuple[str, ...] = ()


DATATROVE = ("datatrove==0.10.1", "spacy==3.8.18", "tokenizers", "regex", "orjson", "pyarrow")
TEXT_DEDUP = ("text-dedup==0.4.1", "pyarrow")
RENSA = ("rensa==0.5.0", "pyarrow")


def datatrove(workers: int) -> Peer:
    """Its four MinHash stages, 14 bands of 8, 64-bit hashes."""
    name = f"datatrove, {workers} workers"
    return Peer(name, "dedup_datatrove.py", DATATROVE, options=("--workers", str(workers)))


def text_dedup(workers: int, *, verify: bool = False) -> Peer:
    """112 permutations in 14 bands of 8; candidates verified or, as is its default, not."""
    plural = "" if workers == 1 else "es"
    name = f"text-dedup, {workers} process{plural}" + (", verifying" if verify else "")
    options = ("--workers", str(workers), *(["--verify"] if verify else []))
    return Peer(name, "dedup_text_dedup.py", TEXT_DEDUP, (3, 12), options)


def rensa() -> Peer:
    """RMinHash over all shingles, LSH of 14 bands, union-find."""
    return Peer("rensa + union-find, 1 process", "dedup_rensa.py", RENSA)


@dataclass(frozen=True)
class PeerResult:
    """What a peer did.

    Attributes:
        version: of the peer.
        seconds: wall seconds of its stages.
        cpu: CPU seconds of all its processes.
        removed: ids of the documents it removed.
    """

    version: str
    seconds: Mapping[str, float]
    cpu: float
    removed: Sequence[str]

    @property
    def total(self) -> float:
        """Seconds of all stages."""
        return sum(self.seconds.values())


def run_peer(peer: Peer, folder: Path) -> PeerResult:
    """Run a peer over the Parquet files of a folder.

    Raises:
        NotMeasured: it cannot be installed, or it failed.
    """
    command = [str(_python(peer)), str(SCRIPTS / peer.script), str(folder), *peer.options]
    environment = {**os.environ, **ONE_THREAD}
    environment.pop("PYTHONPATH", None)
    with tempfile.TemporaryFile("w+") as errors:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment, check=False
        )
        errors.seek(0)
        output = errors.read()
    if done.returncode:
        raise NotMeasured(f"it failed: {output.strip()[-MAX_ERROR_CHARS:]}")
    answer = json.loads(done.stdout.splitlines()[-1])
    return PeerResult(answer["version"], answer["seconds"], answer["cpu"], answer["removed"])


def _python(peer: Peer) -> Path:
    """The interpreter of a peer's environment, which is made if need be."""
    folder = bench_root() / "peers" / peer.packages[0]
    python = folder / "bin" / "python"
    stamp = folder / ".installed"
    wanted = " ".join(peer.packages)
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    print(f"installing {wanted} into {folder}", file=sys.stderr)
    base = _interpreter(peer.min_python)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for command in ([base, "-m", "venv", str(folder)], [*install, *peer.packages]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = (done.stderr or done.stdout).strip()[-MAX_ERROR_CHARS:]
            shutil.rmtree(folder, ignore_errors=True)
            raise NotMeasured(f"it cannot be installed: {reason}")
    stamp.write_text(wanted)
    return python


def _interpreter(min_version: tuple[int, int]) -> str:
    """A Python of a version or newer, this one if it will do."""
    if sys.version_info >= min_version:
        return sys.executable
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    names = [f"python3.{minor}" for minor in range(min_version[1], min_version[1] + 3)]
    candidates: list[str | None] = []
    for name in names:
        candidates += [shutil.which(name), *map(str, sorted(pyenv.glob(f"*/bin/{name}")))]
    check = f"import sys, venv; sys.exit(sys.version_info < {min_version})"
    for candidate in filter(None, candidates):
        # A pyenv shim exists for versions that are not selected, and then fails.
        if not subprocess.run(
            [candidate, "-c", check], capture_output=True, check=False
        ).returncode:
            return candidate
    raise NotMeasured(
        f"it needs Python {min_version[0]}.{min_version[1]} or newer, which is not here"
    )
