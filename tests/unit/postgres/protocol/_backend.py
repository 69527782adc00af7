"""A model of what backends do with units, to judge the verdict by: what is saved, and when.

Statements are letters:

r  a read                           w  a write
f  a "read" that writes: a SELECT of a function with an INSERT in it
e  a write that fails               n  nextval
s  a setting                        l  SET LOCAL, a setting of the transaction
v  VACUUM: for good at once, refused in a transaction
x  CALL that commits inside: for good at once, refused in a transaction
B C R  BEGIN, COMMIT, ROLLBACK      c k  COMMIT AND CHAIN, ROLLBACK AND CHAIN
p t    SAVEPOINT, ROLLBACK TO       P  PREPARE TRANSACTION (counts as saved)
A capital U in front hides the unit's text from the proxy, as one of more than 1 MiB.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from proxy.postgres.protocol.lessons import only_settings
from proxy.postgres.protocol.statement import Class, Opaque, Script, Statement, Tx, script_of
from proxy.postgres.protocol.units import Kind, Unit
from proxy.postgres.protocol.verdict import Action, Decision, Loss, Replay, judge

STATEMENTS = {
    "r": Statement(Class.READ, "SELECT"),
    "f": Statement(Class.READ, "SELECT", opaque=Opaque.WEAK),
    "w": Statement(Class.WRITE, "INSERT"),
    "e": Statement(Class.WRITE, "INSERT"),
    "n": Statement(Class.SEQUENCE, "SELECT"),
    "s": Statement(Class.SETTING, "SET"),
    "l": Statement(Class.SETTING, "SET", Tx.LOCAL),
    "v": Statement(Class.OTHER, "VACUUM"),
    "x": Statement(Class.OTHER, "CALL", opaque=Opaque.STRONG),
    "B": Statement(Class.BEGIN, "BEGIN", Tx.BEGIN),
    "C": Statement(Class.BEGIN, "COMMIT", Tx.COMMIT),
    "R": Statement(Class.BEGIN, "ROLLBACK", Tx.ROLLBACK),
    "c": Statement(Class.BEGIN, "COMMIT", Tx.COMMIT_CHAIN),
    "k": Statement(Class.BEGIN, "ROLLBACK", Tx.ROLLBACK_CHAIN),
    "p": Statement(Class.BEGIN, "SAVEPOINT", Tx.SAVEPOINT, savepoint="s"),
    "t": Statement(Class.BEGIN, "ROLLBACK", Tx.ROLLBACK_TO, savepoint="s"),
    "P": Statement(Class.OTHER, "PREPARE", Tx.PREPARE),
}
WRITES = "wfvx"


@dataclass
class Work:
    """One unit of a client: `letters` as above, sent as a Query or as a batch."""

    number: int
    letters: str
    query: bool

    @property
    def hidden(self) -> bool:
        return self.letters[0] == "U"

    @property
    def statements(self) -> str:
        return self.letters.lstrip("U")

    def unit(self) -> Unit:
        """As the gatherer makes it."""
        unit = Unit(Kind.QUERY if self.query else Kind.BATCH, b"Q\0\0\0\4")
        unit.complete = True
        if self.query:
            unit.script = script_of(tuple(STATEMENTS[s] for s in self.statements))
        else:
            unit.executes = [(script_of((STATEMENTS[s],)), b"") for s in self.statements]
            unit.owed = len(self.statements)
        if self.hidden:
            unit.pieces = unit.script = None
            unit.executes = [(None, b"") for _ in self.statements]
        return unit


def script(letters: str) -> Script:
    """The script of these statements."""
    return script_of(tuple(STATEMENTS[s] for s in letters))


@dataclass
class Reply:
    """What a backend says, and whether a FATAL can strike right behind it."""

    kind: str  # C, E, Z; or nothing: a step without a word
    status: str = ""
    tag: str = ""
    fatal_ok: bool = True


@dataclass
class Backend:
    """One backend. `saved` outlives it; `pending` does not."""

    saved: list[tuple[int, int]] = field(default_factory=list)
    status: str = "I"
    pending: list[tuple[int, int]] = field(default_factory=list)
    mark: int | None = None  # length of `pending` at the savepoint
    implicit: bool = False  # something ran in a transaction that no BEGIN has begun
    read_only: bool = False

    def run(self, work: Work, executes: int | None = None) -> Iterator[Reply]:
        """Step by step. `executes`: how many Executes of a batch have come; then it waits."""
        letters = work.statements
        if not work.query and executes is not None:
            letters = letters[:executes]
        multi = work.query and len(letters) > 1
        for index, letter in enumerate(letters):
            refused = self.one(letter, (work.number, index), index > 0 or multi)
            if refused:
                self.fail()
                yield Reply("E")
                break
            if work.query and index == len(letters) - 1 and self.status == "I":
                self.save()  # before the last CommandComplete, and no FATAL in between
                yield Reply("", fatal_ok=letter in "vx")
            elif letter in "CcPvx":
                yield Reply("", fatal_ok=letter in "vx")
            yield Reply("C", tag=self.tag)
        else:
            if not work.query and executes is not None:
                return
        if self.status == "I" and self.pending:
            self.save()
            yield Reply("", fatal_ok=False)
        self.implicit = False
        yield Reply("Z", status=self.status)

    tag = ""

    def one(self, letter: str, write: tuple[int, int], crowded: bool) -> bool:
        """Run one statement; True if it fails."""
        self.tag = letter
        if self.status == "E" and letter not in "CRcktP":
            return True
        in_block = self.status == "T" or self.implicit or crowded
        match letter:
            case "w" | "f" | "v" | "x" | "n" if self.read_only:
                return True
            case "w" | "f":
                self.pending.append(write)
            case "v" | "x":
                if in_block:
                    return True
                self.saved.append(write)
            case "e":
                return True
            case "B":
                self.status = "T"
            case "C" | "R" | "c" | "k" | "P" | "p" | "t":
                return self._control(letter)
        self.implicit = self.status == "I" and letter not in "CRP"
        return False

    def _control(self, letter: str) -> bool:
        if letter in "ckPpt" and self.status == "I":
            return True
        if letter == "p":
            self.mark = len(self.pending)
        elif letter == "t":
            if self.mark is None:
                return True
            del self.pending[self.mark :]
            self.status = "T"
        else:
            if self.status == "E" or letter in "Rk":
                self.tag = "R"
                self.drop()
            self.save()
            self.mark, self.implicit = None, False
            self.status = "T" if letter in "ck" else "I"
        return False

    def save(self) -> None:
        """Commit."""
        self.saved += self.pending
        self.pending.clear()

    def drop(self) -> None:
        """Roll back."""
        self.pending.clear()

    def fail(self) -> None:
        """The statement had an error."""
        if self.status == "I":
            self.drop()
        else:
            self.status = "E"
            if self.mark is None:
                self.pending.clear()


@dataclass
class Cut:
    """How a link dies: what had left, what ran, what was seen of it, and with which last words."""

    left: int  # units that left whole
    executes: int  # of the batch behind them that left in part; -1: none of its bytes did
    ran: int  # steps
    seen: int  # of these, how many replies were seen
    fatal: bool
    released: bool  # what was seen of the first unit owed has reached the client
    complete: bool  # the unit that left in part is one that the client has not finished


@dataclass
class Told:
    """What the client knows of one unit in the end."""

    action: str  # ok, failed, or the name of the Action
    tags: list[str] = field(default_factory=list)


@dataclass
class Client:
    """One client's units, over as many links as there are cuts, and what became of them."""

    works: list[Work]
    replay: Replay = Replay.CERTIFIED
    status: str = "I"
    saved: list[tuple[int, int]] = field(default_factory=list)
    told: dict[int, Told] = field(default_factory=dict)
    prologue: list[Unit] | None = None
    errors: list[str] = field(default_factory=list)
    units: dict[int, Unit] = field(default_factory=dict)

    def live(self, cuts: list[Cut]) -> "Client":
        self.units = {work.number: work.unit() for work in self.works}
        self._send(self.works, cuts, again=False)
        return self

    def _send(self, works: list[Work], cuts: list[Cut], again: bool) -> None:
        """Send these on a new link, all in one go; the last cuts list is empty: it lives."""
        backend = Backend()
        if again:
            backend.status = "T"
        cut = cuts[0] if cuts else None
        steps: list[tuple[Work | None, Reply]] = []
        for index, work in enumerate(works):
            if cut is not None and index > cut.left:
                break
            part = cut.executes if cut is not None and index == cut.left else None
            if part is not None and (work.query or part < 0):
                break
            backend.read_only = self.units[work.number].read_only
            for reply in backend.run(work, part):
                steps.append((work, reply))
                if cut is not None and len(steps) >= cut.ran:
                    break
            if cut is not None and len(steps) >= cut.ran:
                break
        self.saved += backend.saved
        if cut is None:
            self._hear(steps, len(steps), works)
            if self.status != "E" and backend.status != self.status:
                self.errors.append(f"link in {backend.status}, client in {self.status}")
            return
        fatal = cut.fatal and (not steps or steps[-1][1].fatal_ok)
        owed = self._hear(steps, len(steps) if fatal else min(cut.seen, len(steps)), works)
        self._lose(owed, works, cut, fatal, cuts[1:])

    def _hear(
        self, steps: list[tuple[Work | None, Reply]], count: int, works: list[Work]
    ) -> list[Work]:
        """The client hears the first replies; returns what is still owed."""
        done = 0
        for work, reply in steps[:count]:
            assert work is not None
            told = self.told.setdefault(work.number, Told("ok"))
            unit = self.units[work.number]
            if reply.kind == "C":
                told.tags.append(reply.tag)
                unit.answered = True
            elif reply.kind == "E":
                told.action = "failed"
                unit.errored = True
            elif reply.kind == "Z":
                done += 1
                self._track(unit, reply.status)
                if unit.read_only:
                    assert reply.status == "I"
                self.status = reply.status
        return works[done:]

    def _track(self, unit: Unit, status: str) -> None:
        if status != "T":
            self.prologue = None
        elif self.status == "I" or self.prologue is not None:
            before = [] if self.status == "I" else self.prologue
            good = only_settings(unit) and not unit.errored and unit.pieces is not None
            self.prologue = [*(before or []), unit] if good else None

    def _lose(
        self, owed: list[Work], works: list[Work], cut: Cut, fatal: bool, cuts: list[Cut]
    ) -> None:
        units = [self.units[work.number] for work in owed]
        for work, unit in zip(owed, units, strict=True):
            index = works.index(work)
            unit.unsent = index >= cut.left
            unit.untouched = index > cut.left or (index == cut.left and cut.executes < 0)
            if index == cut.left and index == len(works) - 1 and not cut.complete:
                unit.unsent, unit.complete = False, False
        if units and (units[0].answered or units[0].errored):
            units[0].released = cut.released
            units[0].replies = cut.released * len(self.told[owed[0].number].tags)
        loss = Loss(fatal, ord(self.status), self.prologue is not None, False, self.replay)
        decisions = judge(units, loss)
        assert len(decisions) == len(units)
        again = bool(decisions) and decisions[0].action is Action.RESEND and self.status == "T"
        if again and self.prologue is None:
            self.errors.append("sent again without its transaction")
        self._follow(list(zip(owed, units, decisions, strict=True)), cuts, again)

    def _follow(
        self, queue: list[tuple[Work, Unit, Decision]], cuts: list[Cut], again: bool
    ) -> None:
        """What goes out again, in runs between what the proxy says itself."""
        while queue:
            run: list[Work] = []
            while queue and queue[0][2].action in (Action.RESEND, Action.READ_ONLY):
                if run and queue[0][2].action is Action.READ_ONLY:
                    break  # it waits until nothing is owed
                work, unit, decision = queue.pop(0)
                if self._refuse(work, unit, decision):
                    continue
                unit.restart()
                unit.complete = True
                unit.read_only = decision.action is Action.READ_ONLY
                self.told.pop(work.number, None)
                run.append(work)
                if unit.read_only:
                    break  # it goes out alone
            if run:
                self._send(run, cuts, again)
                cuts, again = [], False
            while queue and queue[0][2].action not in (Action.RESEND, Action.READ_ONLY):
                work, unit, decision = queue.pop(0)
                tags = self.told.pop(work.number, Told("ok")).tags
                finished = decision.action is Action.FINISH and self.units[work.number].errored
                # The server's own error is what a failed unit is finished with.
                name = "failed" if finished else decision.action.name
                self.told[work.number] = Told(name, tags)
                self.status = chr(decision.status)
                self.prologue = None

    def _refuse(self, work: Work, unit: Unit, decision: Decision) -> bool:
        if work.hidden or unit.released:
            self.errors.append("what is not kept, or was delivered, cannot be sent again")
            return True
        if decision.action is Action.READ_ONLY and self.status == "T":
            self.errors.append("read-only inside a transaction")
        return False
