"""Shared asyncio plumbing: listen, dial, TLS, keepalive, tasks, deadlines."""
