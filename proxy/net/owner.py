"""Who closes a descriptor: one owner, once.

uvloop 0.23's `create_connection(sock=…)` takes the number of the socket, closes that number when
the connection ends, and detaches the socket object then, if it has come to remember it: which it
does one turn after connection_made. A connection that ends before (its first write meets a reset)
leaves an object that closes the same number again when the garbage collector finds it. By then the
number may be another connection's, and what that one writes goes to whoever gets the number next:
seen as bytes in front of another link's TLS handshake ("received unencrypted data after SSL
request", fault campaign, seed 11). uvloop repaired the same for cancelled dials only (its issues
645 and 738). asyncio's transports close the object itself, and need nothing.
"""

import asyncio
import socket

import uvloop


def disown(sock: socket.socket) -> None:
    """To be called once the running loop was given `sock`, however that ended: from here on the
    loop alone closes it, and the object is of no more use.
    """
    if isinstance(asyncio.get_running_loop(), uvloop.Loop):
        sock.detach()
