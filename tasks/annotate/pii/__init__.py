"""Spans of personal data: e-mail addresses, IP addresses, phone and card numbers, IBANs.

A compiled scan over the UTF-8 buffer proposes short windows (`windows`); bounded patterns and
checksums decide on each of them (`kinds`, `checksums`); overlaps are settled and byte positions
become character offsets (`spans`). Time is linear in the text.
"""
