"""What documents that stay have in common: one address, the same lines, the same passages."""
