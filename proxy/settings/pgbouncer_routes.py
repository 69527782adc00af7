"""PgBouncer's settings as Backstay's: what each option becomes, and a note for what has no place.

Reads the user list that the ini names, and no other file. [databases] entries that lead to
the same server become one route: Backstay passes the client's database name on. Different servers
become different routes, each with a port of its own.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from proxy.settings import pgbouncer_options as options
from proxy.settings.fields import parse_listen
from proxy.settings.pgbouncer_ini import Entry, Ini, Options, Place, User, read_pairs, read_users
from proxy.settings.rules import is_loopback
from proxy.settings.urls import UrlError, parse_postgres_url

Values = dict[str, object]
LOCAL = "127.0.0.1"
NAME_CHARS_MAX = 63


@dataclass(frozen=True, slots=True)
class Note:
    """A word about an option. `decide`: somebody has to look at it before it goes to production."""

    place: Place | None
    text: str
    decide: bool = False


@dataclass(slots=True)
class Route:
    """One entry of `postgres:`."""

    name: str
    databases: list[str]
    upstream: str
    password: str | None = field(default=None, repr=False)
    listen: list[str] = field(default_factory=list)
    method: str = "passthrough"
    trust_anywhere: bool = False
    users: dict[str, str] = field(default_factory=dict, repr=False)
    tls: Values = field(default_factory=dict)
    pool: Values = field(default_factory=dict)
    keepalive: Values = field(default_factory=dict)
    resilience: Values = field(default_factory=dict)


@dataclass(slots=True)
class Imported:
    """What the ini became."""

    routes: list[Route] = field(default_factory=list)
    log_level: str = ""
    admin: dict[str, list[str]] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)


def convert(ini: Ini) -> Imported:
    """The routes and notes. Raises ConfigError with every mistake of the ini."""
    made = _Converter(ini).convert()
    ini.mistakes = list(dict.fromkeys(ini.mistakes))  # several databases may make the same one
    ini.fail_if_wrong()
    return made


AUTH_TYPES = ("md5", "scram-sha-256", "plain", "trust", "any", "cert", "hba", "pam", "ldap")
SSLMODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
CLIENT_TLS = {"prefer": "allow", "verify-full": "verify-ca"}

# option → (section of the route, key, lowest, highest, what 0 becomes; None: nothing special)
NUMBERS: dict[str, tuple[str, str, float, float, float | None]] = {
    "max_client_conn": ("pool", "clients", 1, 1_000_000, None),
    "default_pool_size": ("pool", "size", 1, 10_000, 10_000),
    "min_pool_size": ("pool", "warm", 0, 10_000, None),
    "server_lifetime": ("pool", "lifetime_s", 1, 30 * 86_400, 1),
    "server_idle_timeout": ("pool", "idle_s", 1, 86_400, 86_400),
    "server_connect_timeout": ("pool", "connect_timeout_s", 0.1, 600, 600),
    "client_login_timeout": ("pool", "login_timeout_s", 0.1, 3600, 3600),
    "query_wait_timeout": ("resilience", "hold_s", 0, 86_400, 86_400),
    "tcp_keepidle": ("keepalive", "idle_s", 1, 32_767, None),
    "tcp_keepintvl": ("keepalive", "interval_s", 1, 32_767, None),
    "tcp_keepcnt": ("keepalive", "count", 1, 127, None),
}
MAPPED = {
    *NUMBERS,
    *("listen_addr", "listen_port", "unix_socket_dir", "pool_mode", "auth_type", "auth_file"),
    *("client_tls_sslmode", "client_tls_key_file", "client_tls_cert_file", "client_tls_ca_file"),
    *("server_tls_sslmode", "server_tls_ca_file", "server_tls_key_file", "server_tls_cert_file"),
    *("tcp_keepalive", "verbose", "admin_users", "stats_users"),
}
MAPPED_DATABASES = {
    *("dbname", "host", "port", "user", "password", "pool_size", "min_pool_size", "pool_mode"),
    *("query_wait_timeout", "load_balance_hosts", "target_session_attrs", "server_lifetime"),
    *("max_db_client_connections", "client_encoding", "datestyle", "timezone"),
}
_OF_DATABASE = {
    "pool_size": "default_pool_size",
    "min_pool_size": "min_pool_size",
    "server_lifetime": "server_lifetime",
    "query_wait_timeout": "query_wait_timeout",
    "max_db_client_connections": "max_client_conn",
}


class _Converter:
    """One conversion."""

    def __init__(self, ini: Ini) -> None:
        self._ini = ini
        self._main = Options(ini.sections["pgbouncer"], ini.mistakes)
        self._made = Imported()
        self._users: dict[str, User] | None = None  # None: there is no list to be read

    def convert(self) -> Imported:
        self._notes_of("pgbouncer", options.PGBOUNCER, MAPPED, self._ini.sections["pgbouncer"])
        self._read_users()
        self._global_modes()
        for entry in self._ini.sections["databases"].values():
            self._database(entry)
        if not self._ini.sections["databases"]:
            self._ini.mistakes.append(f"{self._ini.file}: expected a database in [databases]")
        for entry in self._ini.sections["users"].values():
            pairs = self._pairs(entry)
            self._notes_of(f"[users] {entry.name}", options.USERS, {"pool_mode"}, pairs)
            self._pool_mode(pairs.get("pool_mode"), f"[users] {entry.name}: ")
        for entry in self._ini.sections["peers"].values():
            self._note(entry.place, f"[peers] {entry.name}: {options.PEERS}")
        for index, route in enumerate(self._made.routes):
            self._listen(route, index)
        if len(self._made.routes) > 1:
            self._several()
        return self._made

    # -- notes

    def _note(self, place: Place | None, text: str, *, decide: bool = False) -> None:
        self._made.notes.append(Note(place, text, decide))

    def _notes_of(
        self, where: str, known: Mapping[str, str], mapped: set[str], given: Mapping[str, Entry]
    ) -> None:
        """A note for each given option that has no setting."""
        prefix = "" if where == "pgbouncer" else f"{where}: "
        for name, entry in given.items():
            if name in mapped:
                continue
            text = known.get(name)
            if text is None:
                text = "PgBouncer 1.25 has no option of that name"
            self._note(entry.place, f"{prefix}{name}: {text}")

    def _pairs(self, entry: Entry) -> dict[str, Entry]:
        try:
            return read_pairs(entry)
        except ValueError as error:
            self._ini.mistakes.append(str(error))
            return {}

    def _pool_mode(self, entry: Entry | None, prefix: str) -> None:
        if entry is None:
            return
        text = options.POOL_MODES.get(entry.value.lower())
        if text is None:
            modes = ", ".join(options.POOL_MODES)
            self._ini.mistakes.append(f"{entry.place}: pool_mode: expected {modes}")
        elif text:
            mode = entry.value.lower()
            self._note(entry.place, f"{prefix}pool_mode = {mode}: {text}", decide=True)

    # -- what holds for every route

    def _global_modes(self) -> None:
        self._pool_mode(self._main.entries.get("pool_mode"), "")
        self._main.choice("auth_type", AUTH_TYPES)
        if (self._main.number("verbose") or 0) > 0:
            self._made.log_level = "debug"
        for option, key in (("admin_users", "users"), ("stats_users", "stats_users")):
            names = [name.strip() for name in (self._main.text(option) or "").split(",")]
            if any(names):
                self._made.admin[key] = [name for name in names if name]

    def _read_users(self) -> None:
        entry = self._main.entries.get("auth_file")
        if entry is None:
            return
        path = Path(entry.value)
        beside = Path(entry.place.file).parent / path
        try:
            self._users, mistakes = read_users(path if path.exists() else beside)
        except ValueError as error:
            text = f"auth_file: {error}: each client's login is left to the server (passthrough)"
            self._note(entry.place, text, decide=True)
            return
        self._ini.mistakes += mistakes

    # -- [databases]

    def _database(self, entry: Entry) -> None:
        pairs = self._pairs(entry)
        where = f"[databases] {entry.name}"
        self._notes_of(where, options.DATABASES, MAPPED_DATABASES, pairs)
        self._pool_mode(pairs.get("pool_mode"), f"{where}: ")
        own = Options(pairs, self._ini.mistakes)
        dbname = own.text("dbname")
        if dbname is not None and dbname != entry.name:
            alias = "any name" if entry.name == "*" else entry.name
            text = f"{where}: clients that ask for {alias} must ask for {dbname} instead"
            self._note(entry.place, f"{text}: there are no aliases", decide=True)
        upstream = self._upstream(own)
        try:
            parse_postgres_url(upstream)
        except UrlError as error:
            self._ini.mistakes.append(f"{entry.place}: {error}")
            return
        route = Route(_route_name(entry.name), [entry.name], upstream)
        self._numbers(route, own)
        self._login(route, own, entry)
        self._tls(route)
        same = next((other for other in self._made.routes if _same(other, route)), None)
        if same is not None:
            same.databases.append(entry.name)
            return
        taken = {other.name for other in self._made.routes}
        number = 2
        while route.name in taken:
            route.name = f"{_route_name(entry.name)[: NAME_CHARS_MAX - 4]}-{number}"
            number += 1
        self._made.routes.append(route)

    def _upstream(self, own: Options) -> str:
        """The upstream URL, without a password."""
        hosts = (own.text("host") or "").split(",")
        port = own.number("port")
        port_text = f":{port:.0f}" if port is not None else ""
        user = own.text("user")
        login = f"{quote(user, safe='')}@" if user else ""
        local = hosts[0].startswith(("/", "@")) or hosts == [""]
        parameters = [] if local else list(self._server_tls())
        parameters += self._parameters(own, several=len(hosts) > 1)
        if local:
            directory = hosts[0] or self._main.text("unix_socket_dir") or "/tmp"
            host = quote(directory, safe="")
        else:
            names = [quote(name.strip(), safe=":") for name in hosts]
            host = ",".join(
                f"[{name}]{port_text}" if ":" in name else f"{name}{port_text}" for name in names
            )
            port_text = ""
        query = "&".join(f"{name}={quote(value, safe=_PLAIN)}" for name, value in parameters)
        dbname = own.text("dbname")
        path = f"/{quote(dbname, safe='')}" if dbname else ""
        return f"postgresql://{login}{host}{port_text}{path}{'?' if query else ''}{query}"

    def _parameters(self, own: Options, *, several: bool) -> list[tuple[str, str]]:
        found = []
        attrs = own.choice(
            "target_session_attrs", ("any", "read-write", "read-only", "primary", "standby")
        )
        if attrs and attrs != "any":
            found.append(("target_session_attrs", attrs))
        balance = own.choice("load_balance_hosts", ("round-robin", "disable"))
        if several and balance != "disable":
            found.append(("load_balance_hosts", "random"))
        if encoding := own.text("client_encoding"):
            found.append(("client_encoding", encoding))
        wanted = [
            f"-c{name}=" + re.sub(r"([ \\])", r"\\\1", value)
            for name in ("datestyle", "timezone")
            if (value := own.text(name))
        ]
        if wanted:
            found.append(("options", " ".join(wanted)))
        if self._main.choice("tcp_keepalive", ("0", "1")) == "0":
            found.append(("keepalives", "0"))
        return found

    def _server_tls(self) -> list[tuple[str, str]]:
        mode = self._main.choice("server_tls_sslmode", SSLMODES)
        root = self._main.text("server_tls_ca_file")
        if mode in ("verify-ca", "verify-full") and not root:
            place = self._main.entries["server_tls_sslmode"].place
            text = f"server_tls_sslmode = {mode}: without server_tls_ca_file the machine's own "
            self._note(place, text + "authorities are used, and the name is verified", decide=True)
            mode, root = "verify-full", "system"
        found = [("sslmode", mode)] if mode and mode != "prefer" else []
        for name, option in (
            ("sslrootcert", root),
            ("sslcert", self._main.text("server_tls_cert_file")),
            ("sslkey", self._main.text("server_tls_key_file")),
        ):
            if option and mode != "disable":
                found.append((name, option))
        return found

    def _numbers(self, route: Route, own: Options) -> None:
        """Numbers of [pgbouncer], and of the database in their place."""
        given: dict[str, tuple[float, Entry]] = {}
        for name in NUMBERS:
            number = self._main.number(name)
            if number is not None:
                given[name] = (number, self._main.entries[name])
        for name, as_name in _OF_DATABASE.items():
            number = own.number(name)
            if number is not None and not (name == "max_db_client_connections" and not number):
                given[as_name] = (number, own.entries[name])
        for name, (number, entry) in given.items():
            section, key, low, high, zero = NUMBERS[name]
            value = zero if zero is not None and not number else min(max(number, low), high)
            if value != number:
                text = f"{entry.name} = {number:g} becomes {section}.{key}: {value:g}"
                self._note(entry.place, f"{text}, which is as far as that goes")
            values: Values = getattr(route, section)
            values[key] = int(value) if value == int(value) else value
        warm, size = route.pool.get("warm", 0), route.pool.get("size", 20)
        if isinstance(warm, int) and isinstance(size, int) and warm > size:
            route.pool["warm"] = size  # PgBouncer caps it in silence, too

    # -- logins

    def _login(self, route: Route, own: Options, entry: Entry) -> None:
        kind = self._main.choice("auth_type", AUTH_TYPES) or "md5"
        looked_up = "auth_user" in own.entries or "auth_user" in self._main.entries
        user, password = own.text("user"), own.text("password")
        if user is not None:
            self._forced(route, user, password, entry)
        elif kind in ("md5", "scram-sha-256", "plain") and not looked_up:
            self._listed(route)
        elif kind in ("trust", "any"):
            route.method = "trust"
            text = f"auth_type = {kind}: the server is asked for the login of the client's own user"
            self._once(self._main.entries["auth_type"].place, text)
        elif kind in ("hba", "pam", "ldap", "cert"):
            text = f"auth_type = {kind}: the password is asked for, and the server decides"
            self._once(self._main.entries["auth_type"].place, text)

    def _once(self, place: Place, text: str) -> None:
        if all(note.text != text for note in self._made.notes):
            self._note(place, text, decide=True)

    def _forced(self, route: Route, user: str, password: str | None, entry: Entry) -> None:
        """`user=`: PgBouncer lets others in as that user; here clients are that user."""
        listed = (self._users or {}).get(user)
        if password is None and listed is not None and listed.kind == "plain":
            password = listed.secret
        text = f"[databases] {entry.name}: clients must log in as {user} themselves"
        self._note(entry.place, f"{text}; each user is the same on both sides", decide=True)
        if password:
            route.method, route.password = "scram-sha-256", password

    def _listed(self, route: Route) -> None:
        """Users of userlist.txt whose secret can serve SCRAM-SHA-256."""
        users = self._users
        if not users:
            return
        route.users = {
            user.name: user.secret for user in users.values() if user.kind in ("plain", "scram")
        }
        md5 = [user for user in users.values() if user.kind == "md5"]
        if route.users:
            route.method = "scram-sha-256"
        if md5:
            names = ", ".join(user.name for user in md5[:5]) + (" …" if len(md5) > 5 else "")
            text = (
                f"md5 secrets cannot serve SCRAM-SHA-256, these users are left out: {names}; give "
                "their passwords, or verifiers from pg_authid"
                if route.users
                else "all secrets are md5, which cannot serve SCRAM-SHA-256: each client's login "
                "is left to the server (passthrough)"
            )
            self._once(md5[0].place, text)

    # -- towards clients

    def _tls(self, route: Route) -> None:
        mode = self._main.choice("client_tls_sslmode", SSLMODES)
        if mode is None or mode == "disable":
            return
        route.tls["mode"] = CLIENT_TLS.get(mode, mode)
        for option, key in (("client_tls_cert_file", "cert"), ("client_tls_key_file", "key")):
            if value := self._main.text(option):
                route.tls[key] = value
            else:
                place = self._main.entries["client_tls_sslmode"].place
                self._ini.mistakes.append(f"{place}: client_tls_sslmode: it needs {option}")
        ca = self._main.text("client_tls_ca_file")
        if route.tls["mode"] == "verify-ca":
            if ca:
                route.tls["client_ca"] = ca
            else:
                place = self._main.entries["client_tls_sslmode"].place
                self._ini.mistakes.append(
                    f"{place}: client_tls_sslmode: it needs client_tls_ca_file"
                )

    def _listen(self, route: Route, index: int) -> None:
        first = self._main.number("listen_port")
        port = int(first if first is not None else 6432) + index
        if not 1 <= port <= 65_535:
            place = self._main.entries["listen_port"].place
            self._ini.mistakes.append(f"{place}: listen_port: expected a port, 1 to 65535")
        hosts = [host.strip() for host in (self._main.text("listen_addr") or "").split(",")]
        hosts = [host for host in hosts if host]
        if not all(_can_be_listened_on(host) for host in hosts):
            place = self._main.entries["listen_addr"].place
            self._ini.mistakes.append(f"{place}: listen_addr: expected *, addresses or host names")
        clear = route.tls.get("mode", "disable") in ("disable", "allow")
        exposed = [host for host in hosts if not is_loopback(host)]
        if exposed and route.method == "passthrough" and clear:
            place = self._main.entries["listen_addr"].place
            text = (
                "listen_addr: passthrough asks for passwords in clear, so without TLS (tls.mode "
                f"require) only this machine may connect: {LOCAL}"
            )
            self._once(place, text)
            hosts = list(dict.fromkeys([h for h in hosts if is_loopback(h)] or [LOCAL]))
        elif exposed and route.method == "trust":
            route.trust_anywhere = True
        route.listen = [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host in hosts]
        directory = self._main.text("unix_socket_dir")
        if directory and directory.startswith("@"):
            place = self._main.entries["unix_socket_dir"].place
            self._once(place, "unix_socket_dir: there are no sockets in the abstract namespace")
        elif directory and not directory.startswith("/"):
            place = self._main.entries["unix_socket_dir"].place
            self._ini.mistakes.append(f"{place}: unix_socket_dir: expected an absolute path")
        elif directory:
            route.listen.append(f"{directory.rstrip('/') or '/'}:{port}")
        if not route.listen:
            route.listen = [f"{LOCAL}:{port}"]

    def _several(self) -> None:
        ports = ", ".join(
            f"{'/'.join(route.databases)}: {route.listen[0].rpartition(':')[2]}"
            for route in self._made.routes
        )
        text = "PgBouncer tells servers apart by the database's name, Backstay by the port, so "
        self._note(None, f"{text}applications need the new ports ({ports})", decide=True)


_PLAIN = "/:,.-_~@+"


def _route_name(database: str) -> str:
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", database).strip("-_.") or "main"
    return name[:NAME_CHARS_MAX]


def _can_be_listened_on(host: str) -> bool:
    try:
        parse_listen(f"[{host}]:1" if ":" in host else f"{host}:1")
    except ValueError:
        return False
    return True


def _same(one: Route, two: Route) -> bool:
    """Whether two databases can share a route: the same server, logins and bounds."""
    return (
        _server(one.upstream) == _server(two.upstream)
        and (one.password, one.users, one.method) == (two.password, two.users, two.method)
        and (one.pool, one.resilience, one.keepalive) == (two.pool, two.resilience, two.keepalive)
    )


def _server(upstream: str) -> tuple[str, str]:
    """A URL without its database, which clients name themselves."""
    base, _, query = upstream.removeprefix("postgresql://").partition("?")
    return base.partition("/")[0], query
