"""What a model client does next, by chance, from what it believes of its session.

Owns: the choice. Must not know: connections, answers, what statements look like on the wire.
"""

import random
from collections.abc import Callable
from dataclasses import replace

from tests.simulation.belief import PINS, Belief
from tests.simulation.scenario import PLAIN, Scenario
from tests.simulation.script import Author, Item, Unit


class Choice:
    """Chooses for one client."""

    def __init__(
        self, rng: random.Random, author: Author, belief: Belief, scenario: Scenario
    ) -> None:
        self.rng, self.author, self.belief = rng, author, belief
        self.scenario = scenario

    def idle_unit(self) -> Unit:
        """The last one before it leaves, on its way when it does."""
        author = self.author
        if self.belief.status == "E":
            return author.unit([author.plain("rollback")])
        return author.unit([self.rng.choice((author.insert, author.echo))()])

    def next(self) -> list[Unit]:
        """What it sends now, all at once."""
        rng, author, status = self.rng, self.author, self.belief.status
        special = self._special() if self.scenario != PLAIN else None
        if special is not None:
            return [special]
        if status == "E":
            verb = rng.choice(("rollback", "rollback", "commit", "echo"))
            item = author.echo() if verb == "echo" else author.plain(verb)
            return [author.unit([item])]
        if rng.random() < 0.12:
            return self._pipeline()
        if status == "T":
            return [author.unit([self._in_transaction()])]
        if rng.random() < 0.25:
            return [author.unit([author.plain("begin")])]
        if rng.random() < 0.1:
            return [author.unit([self._anything() for _ in range(rng.randrange(2, 4))])]
        if rng.random() < 0.05:
            return [self._whole_transaction()]
        return [author.unit([self._at_rest()])]

    def _special(self) -> Unit | None:
        """A unit that only this scenario has; None: as usual."""
        rng, author, scenario = self.rng, self.author, self.scenario
        if rng.random() < 0.6:
            return None
        makers: list[Callable[[], Unit]] = []
        if scenario.copy:
            makers += [author.copy_in, author.copy_out]
        if scenario.flush:
            makers.append(
                lambda: author.flushed([self._anything() for _ in range(rng.choice((1, 1, 2, 3)))])
            )
        if scenario.notify:
            makers.append(lambda: author.unit([author.notify()]))
            if self.belief.status == "I":
                makers.append(lambda: author.unit([author.plain(self._ear())]))
        return rng.choice(makers)() if makers else None

    def _ear(self) -> str:
        listens = "listen" in self.belief.pins and self.rng.random() < 0.3
        return "unlisten" if listens else "listen"

    def _whole_transaction(self) -> Unit:
        author = self.author
        middle = [author.insert() for _ in range(self.rng.randrange(1, 3))]
        items = [author.plain("begin"), *middle, author.plain("commit")]
        return author.unit(items, query=True)

    def _pipeline(self) -> list[Unit]:
        """Several units; what happens to one is not known when the next is sent."""
        rng, author = self.rng, self.author
        kinds: list[Item] = []
        if self.belief.status == "I" and rng.random() < 0.5:
            kinds = [
                author.plain("begin"),
                author.insert(),
                author.insert(),
                author.plain("commit"),
            ]
        elif self.belief.status == "T":
            kinds = [author.insert(), author.plain("commit"), author.echo()]
        else:
            kinds = [self._anything() for _ in range(rng.randrange(2, 6))]
        return [author.unit([item]) for item in kinds]

    def _anything(self) -> Item:
        author = self.author
        makers = (author.echo, author.insert, author.insert, author.series)
        return self.rng.choice(makers)()

    def _in_transaction(self) -> Item:
        rng, author = self.rng, self.author
        draw = rng.random()
        if draw < 0.3:
            return author.plain(rng.choice(("commit", "commit", "rollback")))
        if draw < 0.36:
            return author.plain(rng.choice(("commit chain", "rollback chain")))
        if draw < 0.42 and self.belief._point is None:
            return author.plain("savepoint")
        if draw < 0.46 and self.belief._point is not None:
            return author.plain("rollback to")
        if draw < 0.54:
            return author.set(local=rng.random() < 0.4)
        if draw < 0.58:
            return author.plain(rng.choice(("duplicate", "syntax")))
        if draw < 0.63:
            return author.show(self.belief.settings_known())
        return self._anything()

    def _at_rest(self) -> Item:
        rng, author, belief = self.rng, self.author, self.belief
        draw = rng.random()
        if draw < 0.14:
            return author.set()
        if draw < 0.28:
            return author.show(belief.settings_known())
        if draw < 0.52:
            return self._statement(rng)
        if draw < 0.57:
            return author.plain(rng.choice(("duplicate", "syntax", "sleep")))
        if draw < 0.60:
            return author.note()
        if draw < 0.62:
            return author.plain(rng.choice(("reset all", "discard all", "deallocate all")))
        if draw < 0.66 and author.special:
            return author.plain(rng.choice(PINS))
        return self._anything()

    def _statement(self, rng: random.Random) -> Item:
        """Prepared statements, of the protocol and of SQL."""
        author, belief = self.author, self.belief
        echo = author.echo()
        if author.taste == "extended" or (author.taste == "both" and rng.random() < 0.5):
            if belief.named and rng.random() < 0.6:
                item = rng.choice(list(belief.named.values()))
                again = replace(item, parse=False)
                if item.bind is not None:
                    again.bind, again.rows = echo.arg.encode(), echo.rows
                return again
            echo.name = f"s{author.numbers.next()}"
            if rng.random() < 0.5:
                echo.sql, echo.bind = "SELECT $1::text", echo.arg.encode()
            return echo
        if belief.sql_prepared and rng.random() < 0.6:
            name = rng.choice(list(belief.sql_prepared))
            if rng.random() < 0.2:
                return Item("deallocate", f"DEALLOCATE {name}", name)
            mark = belief.sql_prepared[name]
            return Item("execute", f"EXECUTE {name}", name, rows=[mark.encode()])
        name = f"p{author.numbers.next()}"
        return Item("prepare", f"PREPARE {name} AS {echo.sql}", name, echo.arg)
