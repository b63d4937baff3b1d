"""Storage on any fsspec URL, its retries and its caches."""
