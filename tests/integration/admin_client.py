"""A client of the admin port that can send what no browser would."""

import contextlib
import http.client
import json
import queue
import socket
import threading
import time
from dataclasses import dataclass
from typing import Any, Self

from prometheus_client.parser import text_string_to_metric_families

WAIT_S_MAX = 15.0


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class AdminClient:
    """Asks one admin port; each request over a connection of its own."""

    def __init__(self, listen: str, token: str = "") -> None:
        self.listen = listen
        self.token = token

    def ask(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """One answer. Header names with _ for -; `token=…` is the Authorization."""
        token = headers.pop("token", "")
        if token:
            headers["Authorization"] = f"Bearer {token}"
        connection = self._connection()
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, headers=named)
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    def status(self) -> Any:
        return self.ask("/api/v1/status").json

    def act(self, what: str, token: str | None = None) -> Answer:
        return self.ask(f"/api/v1/act/{what}", "POST", token=self.token if token is None else token)

    def metric(self, name: str, **labels: str) -> float:
        """A sample's value, 0 if there is none."""
        text = self.ask("/metrics").body.decode()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    return sample.value
        return 0.0

    def _connection(self) -> http.client.HTTPConnection:
        if not self.listen.startswith("/"):
            return http.client.HTTPConnection(self.listen, timeout=WAIT_S_MAX)
        connection = http.client.HTTPConnection("localhost", timeout=WAIT_S_MAX)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(WAIT_S_MAX)
        connection.sock.connect(self.listen)
        return connection


class EventStream:
    """/api/v1/events, read by a thread."""

    def __init__(self, listen: str) -> None:
        self._connection = http.client.HTTPConnection(listen, timeout=WAIT_S_MAX)
        self._events: queue.Queue[tuple[str, Any]] = queue.Queue()
        self._connection.request("GET", "/api/v1/events")
        self._sock = self._connection.sock  # forgotten by the connection when it is to end
        self._answer = self._connection.getresponse()
        self.status = self._answer.status
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        assert self.status == 200
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> int:
        """Hang up; the status of the answer."""
        assert self._sock is not None
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        if self._thread.is_alive():
            self._thread.join(WAIT_S_MAX)
        self._answer.close()
        self._connection.close()
        self._sock.close()
        return self.status

    def until(self, name: str, wanted: Any = lambda data: True) -> Any:
        """The data of the next event of that name for which `wanted(data)` is true."""
        end_s = time.monotonic() + WAIT_S_MAX
        while True:
            found, data = self._events.get(timeout=max(0.01, end_s - time.monotonic()))
            if found == name and wanted(data):
                return data

    def _read(self) -> None:
        name = ""
        try:
            for line in self._answer:
                text = line.decode().rstrip("\n")
                if text.startswith("event: "):
                    name = text.removeprefix("event: ")
                elif text.startswith("data: "):
                    self._events.put((name, json.loads(text.removeprefix("data: "))))
        except (OSError, ValueError, http.client.HTTPException):
            return  # closed, by us or by the proxy
