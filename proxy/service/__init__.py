"""Start, serve, drain, stop."""
