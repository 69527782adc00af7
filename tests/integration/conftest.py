"""What the integration tests share: the corpus' schema in the shared server."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from proxy.demo.servers import PostgresServer
from tests.corpus import schema

if TYPE_CHECKING:
    import psycopg


@pytest.fixture(scope="session")
def corpus_connection(postgres: PostgresServer) -> Iterator["psycopg.Connection[Any]"]:
    """A superuser's connection to the server behind the proxy; the corpus' objects are there."""
    with postgres.connect() as connection:
        schema.prepare(connection)
        yield connection
