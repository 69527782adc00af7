"""Redis without I/O: framing, commands, cache, verdicts."""
