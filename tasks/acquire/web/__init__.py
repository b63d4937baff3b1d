"""The crawler: breadth-first, level by level, so that its result never depends on arrival order."""
