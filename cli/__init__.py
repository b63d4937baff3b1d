"""The command line: one file per command; arguments in, lines or JSON out."""
