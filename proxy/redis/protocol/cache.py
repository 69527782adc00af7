"""The coherent read-through cache of one partition: state only, no I/O, no clock.

INTERFACE (first commit: the signatures and the rules for the caller; bodies follow).

Objects
-------
``CacheSet(options, rng)``  one per route (endpoint); owns the byte budget shared by its partitions.
    ``.partition(user, db) -> Cache``
    ``.writing(db, keys)`` / ``.written(db, keys)``   W1 and W3; db None = every database
    ``.flushing()`` / ``.flushed()``                  W5 at dispatch and at the answer (or loss)
    ``.opaque_answered(reader, declared, now_s) -> list[(Cache, bytes)]``  W4: bytes to write on each T
``Cache``   one per partition (endpoint, user, db); owns everything sent on its T-link after set-up.
    ``.reader(resp) -> Reader``                       one per client connection in this partition
    ``.link_up(server, now_s)``  after HELLO 3, AUTH, SELECT, CLIENT TRACKING ON OPTIN, TRACKINGINFO
    ``.refused(reason)``                              tracking refused: uncached, `.status` says so
    ``.link_lost(now_s) -> Out``                      T-link gone, for any cause
    ``.frames(frames, now_s) -> Out``                 whole RESP3 frames read from T, in order
    ``.tick(now_s) -> Out``                           call at ``.next_tick_s(now_s)`` or every 50 ms
``Reader``  one client's view.
    ``.hit(raw, now_s) -> bytes | None``              the hot path: one dictionary lookup
    ``.read(raw, argv, waiter, now_s) -> Answer | Wait | Bypass``    the miss path
    ``.direct(argv, raw, reply, now_s)``              a cacheable read was answered on the D-link
    ``.stale(raw, argv, now_s) -> bytes | None``      only while the upstream is away
    ``.close()``

Actions of ``read``
-------------------
``Answer(reply)``   send it now.  ``Wait(write)``  write these bytes (may be empty) on T, unsplit and in
the order of the calls; the waiter is named later in an ``Out``.  ``Bypass(reason)``  forward `raw` on D.

``Out``: ``answers`` [(waiter, reply in the client's RESP version)], ``direct`` [waiter] to forward on
D now, in this order; ``write`` bytes for T; ``fault`` not None: close T and call ``link_lost``.

What the caller must do (W6 and friends)
----------------------------------------
1. `hit` only while the client has nothing unanswered, on T or D.
2. While it has unanswered commands on D, everything goes to D (reads too; call `direct` at the reply).
3. While it has unanswered reads on T (`Wait`), further reads go through `read`, which keeps their
   order; anything for D (a write, a `Bypass`) waits until those reads are answered.
4. `writing` before the write's bytes reach a link, `written` before its reply reaches the client, also
   when the link is lost. Keys of all writes, also on X-links and inside EXEC (at EXEC).
5. Replies to `Out.answers` go to each client in the order of its commands, as the lists have them.
"""
