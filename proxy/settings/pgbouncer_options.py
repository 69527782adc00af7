"""Every option of PgBouncer 1.25 that has no setting here, and what covers it instead.

Source of the names: PgBouncer's config.md, 1.25. Those with a setting are in `pgbouncer_routes`; a
test walks both. `{value}` is never put in: values may be secrets.
"""

from typing import Final

_PROCESS = "the service manager's work (systemd, container)"
_LOG = "the log goes to stderr, one event a line (log.level, log.format)"
_POOLERS = "a link is never handed on inside a session, so there is nothing to do"
_DNS = "names are looked up at each connection, by the system's resolver"
_CIPHERS = "TLS 1.2 and 1.3 with OpenSSL's own choice"
_AUTH = "with auth.method passthrough the server itself decides"

PGBOUNCER: Final[dict[str, str]] = {
    # generic
    "logfile": _LOG,
    "pidfile": _PROCESS,
    "unix_socket_mode": "the directory's permissions protect the socket",
    "unix_socket_group": "the directory's group protects the socket",
    "user": _PROCESS,
    "reserve_pool_size": "pool.size is the one bound, per user and database: raise it by this much",
    "reserve_pool_timeout": "there is no reserve pool",
    "max_db_connections": "pool.size bounds each user and database, nothing bounds a database",
    "max_db_client_connections": "pool.clients bounds the route",
    "max_user_connections": "pool.size bounds each user and database, nothing bounds a user",
    "max_user_client_connections": "pool.clients bounds the route",
    "server_round_robin": "the link used last is used first",
    "track_extra_parameters": "all of a session's settings are rebuilt on a new link",
    "ignore_startup_parameters": "all startup parameters reach the server",
    "peer_id": "several processes of one Backstay share the ports (workers) and find each other",
    "disable_pqexec": "simple queries are passed on; use statements with parameters",
    "application_name_add_host": "pg_stat_activity shows Backstay's address; the log names clients",
    "conffile": "backstay run -c FILE",
    "service_name": _PROCESS,
    "job_name": _PROCESS,
    "stats_period": "Prometheus takes the counters from /metrics whenever it likes",
    "max_prepared_statements": "prepared statements work, the driver's and SQL's, without a number",
    "scram_iterations": "Backstay makes no verifiers: users holds passwords or pg_authid's own",
    # authentication
    "auth_hba_file": f"no HBA rules: {_AUTH}",
    "auth_ident_file": f"no user maps: {_AUTH}",
    "auth_user": f"passwords are not looked up: {_AUTH}",
    "auth_query": f"passwords are not looked up: {_AUTH}",
    "auth_dbname": f"passwords are not looked up: {_AUTH}",
    "auth_ldap_options": f"no LDAP: {_AUTH}",
    # log
    "syslog": _LOG,
    "syslog_ident": _LOG,
    "syslog_facility": _LOG,
    "log_connections": "connected and disconnected are events at level info (log.level)",
    "log_disconnections": "connected and disconnected are events at level info (log.level)",
    "log_pooler_errors": "each error that Backstay answers is an event",
    "log_stats": "/metrics, /api/v1/status and `backstay top` have the numbers",
    # sanity checks, timeouts
    "server_reset_query": "a link is cleaned as far as its session touched it",
    "server_reset_query_always": _POOLERS,
    "server_check_delay": "a dead link does no harm; keepalive.ping_s looks after idle ones",
    "server_check_query": "a dead link does no harm; keepalive.ping_s looks after idle ones",
    "server_fast_close": "links of changed settings are left at the next boundary anyway",
    "server_login_retry": "an upstream that is away is tried again at once, then every 50 ms to "
    "0.5 s; sessions wait for resilience.hold_s",
    "autodb_idle_timeout": "nothing is kept for a database nobody uses",
    "pool_idle_timeout": "nothing is kept for a pool nobody uses",
    "dns_max_ttl": _DNS,
    "dns_nxdomain_ttl": _DNS,
    "dns_zone_check_period": _DNS,
    "resolv_conf": _DNS,
    "query_wait_notify": "a session that waits is told by a NOTICE after 5 s",
    "login_notify_message": "clients cannot tell Backstay from the server",
    "suspend_timeout": "a restart drains (drain_s); nothing is handed over",
    # TLS
    "client_tls_protocols": _CIPHERS,
    "client_tls_ciphers": _CIPHERS,
    "client_tls13_ciphers": _CIPHERS,
    "client_tls_ecdhcurve": _CIPHERS,
    "client_tls_dheparams": _CIPHERS,
    "server_tls_protocols": _CIPHERS,
    "server_tls_ciphers": _CIPHERS,
    "server_tls13_ciphers": _CIPHERS,
    # dangerous timeouts
    "query_timeout": "statement_timeout of the server ends the statement, not the client",
    "cancel_wait_timeout": "a cancel request is passed on at once or dropped",
    "client_idle_timeout": "idle_session_timeout of the server; it costs no client anything here",
    "idle_transaction_timeout": "idle_in_transaction_session_timeout of the server",
    "transaction_timeout": "transaction_timeout of the server (17 and newer)",
    # low level
    "pkt_buf": "chunks are passed on as they come",
    "max_packet_size": "bodies are streamed, whatever their size",
    "listen_backlog": "always 1024",
    "sbuf_loopcnt": "each side is read in turn, with back-pressure",
    "so_reuseport": "workers: N processes share the ports",
    "tcp_defer_accept": "not set",
    "tcp_socket_buffer": "the kernel's own sizing",
    "tcp_user_timeout": "derived from keepalive.idle_s, interval_s and count",
}

DATABASES: Final[dict[str, str]] = {
    "auth_user": PGBOUNCER["auth_user"],
    "auth_query": PGBOUNCER["auth_query"],
    "auth_dbname": PGBOUNCER["auth_dbname"],
    "reserve_pool_size": PGBOUNCER["reserve_pool_size"],
    "reserve_pool": PGBOUNCER["reserve_pool_size"],
    "connect_query": "options in the upstream URL (…&options=-csearch_path%3Dapp), or ALTER ROLE … "
    "SET on the server",
    "max_db_connections": PGBOUNCER["max_db_connections"],
}

USERS: Final[dict[str, str]] = {
    "pool_size": "pool.size is the same for every user of a route",
    "reserve_pool_size": PGBOUNCER["reserve_pool_size"],
    "pool_mode": "",  # said by the converter: it depends on the mode
    "max_user_connections": PGBOUNCER["max_user_connections"],
    "max_user_client_connections": PGBOUNCER["max_user_client_connections"],
    "query_timeout": "ALTER ROLE … SET statement_timeout on the server",
    "query_wait_timeout": "resilience.hold_s is the same for every user of a route",
    "idle_transaction_timeout": "ALTER ROLE … SET idle_in_transaction_session_timeout",
    "transaction_timeout": "ALTER ROLE … SET transaction_timeout (17 and newer)",
    "client_idle_timeout": "ALTER ROLE … SET idle_session_timeout",
}

PEERS: Final = (
    "processes of one Backstay (workers) find each other; cancel requests reach the right one"
)

POOL_MODES: Final[dict[str, str]] = {
    "session": "",
    "transaction": "transaction pooling is not available: a client holds its link until it leaves, "
    "so pool.size must be as large as the number of connections one user opens to one database. "
    "If the server cannot have so many, keep PgBouncer and put Backstay in front of it",
    "statement": "statement pooling is not available: a client holds its link until it leaves, so "
    "pool.size must be as large as the number of connections one user opens to one database",
}
