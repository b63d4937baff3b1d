"""Spans of personal data: e-mail addresses, IP addresses, phone and card numbers, IBANs.

A compiled scan over the UTF-8 buffer proposes short windows (`candidate_scan`). Bounded patterns and
checksums test each of them (`detectors`, `checksums`). Overlaps are resolved, and byte positions
become character offsets (`spans`). Time is linear in the text.
"""
