"""The n-gram family: interpolated modified Kneser-Ney over token ids, of any order."""
