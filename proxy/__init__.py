"""Backstay: a connection-resilience proxy for PostgreSQL and Redis."""

__version__ = "0.1.0"
