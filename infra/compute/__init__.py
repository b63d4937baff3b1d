"""Dask clusters, child processes, compiled kernels and shuffles through files."""
