"""Links that may be dead without anybody knowing, because another one to their host was lost so.

A path that dies (a firewall's table, a failed-over address, a cable) tells of none of the links it
carried, or of a few. The first that is found lost puts the others into doubt: each is asked for a
sign of life before it is given to anyone, all at once, so that one wait finds all that are dead.
A link whose server said why it ends it (FATAL) says nothing about the others. One whose server said
that it takes no writes any more does: the others may be alive, and of no use.

Owns: since when each host is in doubt. Must not know: who asks the links.
"""

from proxy.core.reasons import Reason
from proxy.postgres.runtime.link import Link
from proxy.postgres.runtime.options import Host

CHECK_DELAY_S = 0.02  # a server that is gone loses all its links within a moment: nobody to ask
_WORDLESS = frozenset((Reason.UPSTREAM_EOF, Reason.UPSTREAM_RESET, Reason.UPSTREAM_SILENT))


class Doubts:
    """When each host last lost a link without a word, or its role. At most as many as there are
    hosts."""

    __slots__ = ("_since_s",)

    def __init__(self) -> None:
        self._since_s: dict[Host, float] = {}

    def about(self, link: Link) -> bool:
        """True if the link has given no sign of life since."""
        if not self._since_s or link.host is None:
            return False
        return link.proven_s < self._since_s.get(link.host, 0.0)

    def lost(self, link: Link, now_s: float) -> bool:
        """A link is lost. True: others to its host are in doubt from now on.

        One that was in doubt itself tells nothing new.
        """
        if link.reason not in _WORDLESS or link.host is None or self.about(link):
            return False
        self._since_s[link.host] = now_s
        return True

    def turned(self, host: Host, now_s: float) -> None:
        """One of its links has said that the host's role is another one. The others have not: a
        server tells an idle session nothing."""
        self._since_s[host] = now_s

    def keep(self, hosts: tuple[Host, ...]) -> None:
        """There are no other hosts any more; links to them are not handed out."""
        self._since_s = {host: since_s for host, since_s in self._since_s.items() if host in hosts}
