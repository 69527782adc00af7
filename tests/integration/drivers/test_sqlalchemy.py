"""SQLAlchemy with its pool, over psycopg, psycopg2 and asyncpg."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import exc, orm
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool

from tests.integration.drivers.conftest import Routes

pytestmark = pytest.mark.servers


class Base(orm.DeclarativeBase):
    """The models of these tests."""


class Member(Base):
    """A member of a gym, as in the incident."""

    __tablename__ = "drivers_member"

    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str] = orm.mapped_column(unique=True)
    visits: orm.Mapped[list["Visit"]] = orm.relationship(back_populates="member")


class Visit(Base):
    """One visit of a member."""

    __tablename__ = "drivers_visit"

    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    member_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey("drivers_member.id"))
    minutes: orm.Mapped[int]
    member: orm.Mapped[Member] = orm.relationship(back_populates="visits")


def engine_for(dsn: str, driver: str, **options: Any) -> sa.Engine:
    return sa.create_engine(dsn.replace("postgresql://", f"postgresql+{driver}://"), **options)


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_orm(routes: Routes, driver: str) -> None:
    def scenario(dsn: str) -> Any:
        engine = engine_for(dsn, driver)
        Base.metadata.drop_all(engine)
        Base.metadata.create_all(engine)
        with orm.Session(engine) as session:
            for number in range(50):
                visits = [Visit(minutes=minutes) for minutes in range(number % 4)]
                session.add(Member(id=number, name=f"member {number}", visits=visits))
            session.commit()
            session.add(Member(id=99, name="member 1"))
            with pytest.raises(exc.IntegrityError):
                session.commit()
            session.rollback()
            with session.begin_nested() as savepoint:
                session.add(Member(id=100, name="never"))
                session.flush()
                savepoint.rollback()
            busy = sa.select(Member.name, sa.func.sum(Visit.minutes)).join(Visit)
            busy = busy.group_by(Member.name).order_by(Member.name).limit(5)
            rows = [tuple(row) for row in session.execute(busy)]
            loaded = session.scalars(sa.select(Member).options(orm.selectinload(Member.visits)))
            counts = sorted(len(member.visits) for member in loaded)
        Base.metadata.drop_all(engine)
        engine.dispose()
        return rows, counts

    rows, counts = routes.same(scenario)
    assert rows[0] == ("member 1", 0)
    assert sum(counts) == sum(n % 4 for n in range(50))


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_pool_under_threads(routes: Routes, driver: str) -> None:
    """Check-out, work, rollback on return, with pre-ping and fewer links than threads."""

    def scenario(dsn: str) -> Any:
        engine = engine_for(dsn, driver, pool_size=3, max_overflow=2, pool_pre_ping=True)
        connects: list[int] = []
        sa.event.listen(engine, "connect", lambda *_: connects.append(threading.get_ident()))

        def work(number: int) -> Any:
            with engine.connect() as connection:
                connection.execute(sa.text("SET search_path TO public"))
                path = connection.scalar(sa.text("SHOW search_path"))
                return path, connection.scalar(sa.text("SELECT :n * 2"), {"n": number})

        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(work, range(100)))
        assert len(connects) <= 5
        engine.dispose()
        return answers

    assert routes.same(scenario) == [("public", n * 2) for n in range(100)]


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_isolation_reflection_and_streaming(routes: Routes, driver: str) -> None:
    def scenario(dsn: str) -> Any:
        engine = engine_for(dsn, driver, isolation_level="REPEATABLE READ", poolclass=NullPool)
        with engine.connect() as connection:
            level = connection.get_isolation_level()
            streaming = connection.execution_options(stream_results=True, max_row_buffer=100)
            result = streaming.execute(sa.text("SELECT generate_series(1, 3000)"))
            total = sum(row[0] for row in result)
        with engine.begin() as connection:
            connection.execute(sa.text("CREATE TABLE drivers_reflected (a int, b text)"))
        columns = [column["name"] for column in sa.inspect(engine).get_columns("drivers_reflected")]
        with engine.begin() as connection:
            connection.execute(sa.text("DROP TABLE drivers_reflected"))
        return level, total, columns

    assert routes.same(scenario) == ("REPEATABLE READ", 3000 * 3001 // 2, ["a", "b"])


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_an_error_does_not_cost_the_connection(routes: Routes, driver: str) -> None:
    def scenario(dsn: str) -> Any:
        engine = engine_for(dsn, driver, pool_size=1, max_overflow=0)
        with engine.connect() as connection:
            first = connection.scalar(sa.text("SELECT pg_backend_pid()"))
        with engine.connect() as connection, pytest.raises(exc.ProgrammingError) as caught:
            connection.execute(sa.text("SELECT * FROM nowhere_at_all"))
        with engine.connect() as connection:
            second = connection.scalar(sa.text("SELECT pg_backend_pid()"))
        engine.dispose()
        return caught.value.connection_invalidated, first == second

    assert routes.same(scenario) == (False, True)


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_async_orm(routes: Routes, driver: str) -> None:
    async def scenario(dsn: str) -> Any:
        engine = create_async_engine(dsn.replace("postgresql://", f"postgresql+{driver}://"))
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.drop_all)
            await connection.run_sync(Base.metadata.create_all)

        async def visit(number: int) -> int:
            async with AsyncSession(engine) as session:
                session.add(Member(id=number, name=f"m{number}", visits=[Visit(minutes=number)]))
                await session.commit()
                query = sa.select(sa.func.sum(Visit.minutes)).where(Visit.member_id == number)
                return (await session.execute(query)).scalar_one()

        answers = await asyncio.gather(*map(visit, range(30)))
        async with AsyncSession(engine) as session:
            session.add(Member(id=1, name="again"))
            with pytest.raises(exc.IntegrityError):
                await session.commit()
        async with engine.connect() as connection:
            stream = await connection.stream(sa.text("SELECT generate_series(1, 1000)"))
            total = sum([row[0] async for row in stream])
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.drop_all)
        await engine.dispose()
        return answers, total

    assert await routes.same_async(scenario) == (list(range(30)), 500_500)
