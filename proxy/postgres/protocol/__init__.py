"""PostgreSQL without I/O: framing, state, verdicts."""
