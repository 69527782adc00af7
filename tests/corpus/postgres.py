"""The PostgreSQL corpus: every way a client may talk, each exchange named and self-contained."""

from tests.corpus import copying, extended, session, simple, special, transactions
from tests.corpus.model import Exchange

EXCHANGES: tuple[Exchange, ...] = (
    *simple.EXCHANGES,
    *extended.EXCHANGES,
    *copying.EXCHANGES,
    *session.EXCHANGES,
    *transactions.EXCHANGES,
    *special.EXCHANGES,
)

BY_NAME = {subject.name: subject for subject in EXCHANGES}
