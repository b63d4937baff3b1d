"""The crawler: breadth-first in waves, so that what it collects never depends on arrival order."""
