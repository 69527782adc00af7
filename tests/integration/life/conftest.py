"""Fixtures of the life-cycle tests: routes in a loop of their own, as elsewhere."""

from tests.integration.postgres.conftest import proxied
from tests.integration.redis.conftest import make_route

__all__ = ["make_route", "proxied"]
