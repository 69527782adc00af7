"""Numbers of sessions and of links: each is given once in the life of a process, whatever the
route, so that an operator can name one of them (KILL_CLIENT, SHOW CLIENTS, the log).
"""

from collections.abc import Callable
from itertools import count

session_number: Callable[[], int] = count(1).__next__
link_number: Callable[[], int] = count(1).__next__
