"""A released folder: written with card, bill of materials and signed digests, and checked again."""
