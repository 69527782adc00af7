"""Logs, metrics, incidents."""
