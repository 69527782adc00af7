"""PostgreSQL: protocol (no I/O) and runtime (asyncio)."""
