"""Contracts between stages: tables of documents, captures and annotations, quality rules, languages."""
