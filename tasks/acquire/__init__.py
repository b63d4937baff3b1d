"""Acquire: brings a source's raw material into the store, one data set per source."""
