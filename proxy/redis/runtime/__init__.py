"""Redis on asyncio: clients, links, pools."""
