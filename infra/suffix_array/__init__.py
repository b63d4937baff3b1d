"""Suffix arrays over token ids: where a sequence of tokens occurs in a text of any length."""
