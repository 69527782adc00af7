"""Runs a program that dies with its parent: `launch.py SIGNAL PARENT_PID UID GID PROGRAM ARG…`.

Executed by path, not imported: a `preexec_fn` in the parent would run Python code between fork and
exec of a process with threads. UID and GID of -1 mean "as we are". Linux delivers SIGNAL to the
program when the parent's *thread* ends, which is why `child.py` spawns from one lasting thread.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Drop privileges, tie our life to the parent's, become the program."""
    death_signal, parent, uid, gid = (int(word) for word in sys.argv[1:5])
    if gid >= 0:
        os.setgroups([])
        os.setgid(gid)
    if uid >= 0:
        os.setuid(uid)
    if sys.platform == "linux":
        # After setuid: a change of credentials clears the setting (prctl(2)).
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the parent is gone already")
    os.execv(sys.argv[5], sys.argv[5:])


if __name__ == "__main__":
    main()
