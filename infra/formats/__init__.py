"""File formats and encodings: WARC, HTTP bodies, Megatron shards, URLs, Unicode tables."""
