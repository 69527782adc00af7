"""Recorded ways of talking to a server, for twin tests and cut-everywhere tests."""
