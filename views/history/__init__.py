"""The history of one document, and which training steps used which documents."""
