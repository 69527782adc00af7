"""The error tree. ProxyError is never raised itself; every leaf says which side and why.

ProxyError
├ ConfigError            a setting is wrong → exit 78, or the reload is refused
├ PeerProtocolError      a peer broke its protocol → that side is closed; all that parsers raise
├ UpstreamUnavailable    dial failed, lost, starting up → hold and retry
├ UpstreamRefused        authentication, no such database → told to the client, never retried
└ LimitExceeded          a bound of the settings was reached → refused in the dialect's own words
AssertionError           our bug: it ends one session, is logged and counted
"""

from proxy.core.reasons import Reason


class ProxyError(Exception):
    """Base of the tree. `reason` is the log field and the metric label."""

    reason: Reason

    def __init__(self, message: str, reason: Reason) -> None:
        assert type(self) is not ProxyError, "raise a leaf of the tree"
        super().__init__(message)
        self.reason = reason


class ConfigError(Exception):
    """Settings that cannot be used. `problems`: lines `file:line:column: path: expected`."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class PeerProtocolError(ProxyError):
    """Bytes that no correct peer sends. The message may go to the peer: it holds no client data."""

    def __init__(self, message: str, reason: Reason = Reason.CLIENT_PROTOCOL) -> None:
        super().__init__(message, reason)


class UpstreamUnavailable(ProxyError):
    """The upstream cannot be used now; waiting may help."""


class UpstreamRefused(ProxyError):
    """The upstream's own refusal. `wire` is its error message, byte for byte, for the client."""

    def __init__(self, message: str, reason: Reason, wire: bytes = b"") -> None:
        super().__init__(message, reason)
        self.wire = wire


class LimitExceeded(ProxyError):
    """A bound of the settings was reached."""
