"""PostgreSQL on asyncio: sessions, links, pools."""
