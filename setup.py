"""Compiles the data path with mypyc where that is possible. Everything else is in pyproject.toml.

The same sources run interpreted: compilation changes the speed and nothing else, and the same tests
run on both. BACKSTAY_COMPILE=0: never. =1: a failure is an error. Otherwise a machine without a C
compiler gets the interpreted sources, and an editable install always does, because a compiled
module would hide later edits.
"""

import os
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_ext import build_ext

NET = "tls"
PROTOCOL = """
    framing units whole expected joined quick classify statement lessons prepared
    state_effects session_state messages startup client_login
"""
RUNTIME = "session_base session_send session_end session sampling link"
REDIS_PROTOCOL = "framing quick reader sieve store lease traffic flights barriers partitions"
REDIS_RUNTIME = (
    "upstream link exclusive tracking lane hold batch stream counters client runs reads mute guard "
    "partition"
)
MODULES = [
    *(f"proxy/net/{name}.py" for name in NET.split()),
    *(f"proxy/postgres/protocol/{name}.py" for name in PROTOCOL.split()),
    *(f"proxy/postgres/runtime/{name}.py" for name in RUNTIME.split()),
    *(f"proxy/redis/protocol/{name}.py" for name in REDIS_PROTOCOL.split()),
    *(f"proxy/redis/runtime/{name}.py" for name in REDIS_RUNTIME.split()),
]
# mypyc exports every function it makes, so that the compiler may neither inline one nor call it but
# by a table. Nobody outside calls them: hidden, a SELECT 1 costs the session a seventh less.
DIRECT = ["-fvisibility=hidden", "-fno-plt"]
TOLD = os.environ.get("BACKSTAY_COMPILE", "auto")


class BuildOrInterpret(build_ext):
    """A compiler that fails leaves the sources as they are, all of them."""

    def run(self) -> None:
        try:
            super().run()
        except Exception as error:
            if TOLD == "1":
                raise
            self.warn(f"not compiled ({error}); the interpreted sources serve as well")
            for name in self.get_outputs():
                Path(name).unlink(missing_ok=True)
            self.extensions = self.distribution.ext_modules = []


def extensions() -> list:
    editable = {"editable_wheel", "develop"} & set(sys.argv)
    if TOLD == "0" or (editable and TOLD != "1"):
        return []
    try:
        from mypyc.build import mypycify

        made = mypycify(["--ignore-missing-imports", *MODULES], opt_level="3", debug_level="0")
    except (ImportError, SystemExit):
        if TOLD == "1":
            raise
        return []
    if os.name == "posix":
        for extension in made:
            extension.extra_compile_args.extend(DIRECT)
    return made


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildOrInterpret})
