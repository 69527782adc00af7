"""How a Backstay is to be started, as the command line says it."""

from dataclasses import dataclass

from proxy.settings.load import Source


@dataclass(frozen=True, slots=True)
class Start:
    """`replace`: share the ports with a process that runs, and is then to be stopped.

    `require_upstream`: do not begin where one cannot be reached. `source`: where SIGHUP reads the
    settings again.
    """

    require_upstream: bool = False
    replace: bool = False
    source: Source | None = None
