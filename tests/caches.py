"""Cache folders of their own for runs, without the costs of an empty one."""

from pathlib import Path

from infra.store.cache_dir import cache_root


def make_cache(folder: Path, *names: str) -> Path:
    """Make a cache with this machine's models and kernels: neither downloaded nor compiled again.

    Args:
        folder: the cache; it may exist.
        names: further folders of this machine's cache that it shares.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("models", "kernels", *names):
        shared, link = cache_root() / name, folder / name
        shared.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(shared)
    return folder
