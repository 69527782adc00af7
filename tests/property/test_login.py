"""Logins under any chopping and any bytes: the same result, or one of the documented errors."""

import base64
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.errors import PeerProtocolError, UpstreamRefused, UpstreamUnavailable
from proxy.postgres.protocol import messages as m
from proxy.postgres.protocol import say, scram, startup
from proxy.postgres.protocol.cert_hash import server_end_point
from proxy.postgres.protocol.client_login import (
    Authenticated,
    ClientLogin,
    ClientPath,
    LoginRules,
    Method,
    Refused,
    user_secret,
)
from proxy.postgres.protocol.saslprep import prepare
from proxy.postgres.protocol.upstream_login import LoginRequest, LoginResult, UpstreamLogin

# Few rounds: the arithmetic is tested elsewhere, and a second of PBKDF2 finds no bug here.
ROUNDS, SALT, RANDOM, PASSWORD = 3, b"0123456789abcdef", b"r" * 18, b"secret"
KEYS = scram.keys_from(scram.salted_password(PASSWORD, SALT, ROUNDS), SALT, ROUNDS)
VERIFIER = scram.verifier_from_keys(KEYS)
RULES = {
    method: LoginRules(
        method=method,
        process_secret=b"s" * 32,
        users={b"bob": user_secret(VERIFIER.text(), SALT)},
        cert_hash=b"h" * 32,
    )
    for method in Method
}
NAMES = st.binary(min_size=1, max_size=20).filter(lambda name: b"\0" not in name)
VALUES = st.binary(max_size=30).filter(lambda value: b"\0" not in value)


def chops(data: bytes, cuts: list[int]) -> list[bytes]:
    """`data` in pieces; cuts beyond its end are taken modulo its length."""
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(places)]


CUTS = st.lists(st.integers(0, 10_000), max_size=12)


def server_side() -> list[bytes]:
    """What a SCRAM server sends to a login with RANDOM, message by message."""
    server = scram.ServerExchange(VERIFIER, b"b" * 18, None)
    login = new_login()
    login.start()
    initial = login.feed(m.authentication_sasl(server.mechanisms()))
    first = server.first(scram.MECHANISM, initial[5 + len(scram.MECHANISM) + 1 + 4 :])
    final = server.final(login.feed(m.authentication_sasl_continue(first))[5:])
    assert final is not None
    return [
        m.authentication_sasl(server.mechanisms()),
        m.authentication_sasl_continue(first),
        m.authentication_sasl_final(final),
        m.authentication_ok(),
        m.notice_response({"S": "WARNING", "M": "w"}),
        m.parameter_status("server_version", "15"),
        m.backend_key_data(7, b"abcd"),
        m.ready_for_query(m.STATUS_IDLE),
    ]


def new_login() -> UpstreamLogin:
    rules = RULES[Method.SCRAM]
    login = ClientLogin(b"bob", rules, ClientPath(tls=False, private=True), RANDOM)
    login.start()
    exchange = scram.ClientExchange(scram.Choice(scram.MECHANISM, b"n,,", b""), b"c" * 18)
    answer = login.feed(ord("p"), m.sasl_initial_response(scram.MECHANISM, exchange.first())[5:])
    exchange.read_first(answer[9:])
    login.feed(ord("p"), exchange.final(KEYS))
    assert isinstance(login.outcome, Authenticated)
    return UpstreamLogin(
        LoginRequest(user=b"bob", database=b"d", credentials=login.outcome.credentials), RANDOM
    )


SERVER_SIDE = server_side()


@given(CUTS, st.binary(max_size=20))
def test_chopping_changes_no_upstream_login(cuts: list[int], leftover: bytes):
    login = new_login()
    login.start()
    sent, received = b"", b""
    for piece in chops(b"".join(SERVER_SIDE), cuts):
        received += piece
        sent += login.feed(piece)
    assert isinstance(login.result, LoginResult)
    whole = new_login()
    whole.start()
    assert whole.feed(b"".join(SERVER_SIDE) + leftover) == sent
    assert whole.result is not None
    assert whole.result.leftover == leftover
    assert (whole.result.params, whole.result.pid) == (login.result.params, login.result.pid)


@given(st.lists(st.binary(max_size=200), max_size=5), st.integers(0, len(SERVER_SIDE)))
def test_any_bytes_of_a_server(pieces: list[bytes], good: int):
    login = new_login()
    login.start()
    try:
        for piece in [*SERVER_SIDE[:good], *pieces]:
            if login.result is None:
                login.feed(piece)
    except (PeerProtocolError, UpstreamRefused, UpstreamUnavailable):
        pass


@given(
    st.lists(st.tuples(st.sampled_from(b"RSKZENv"), st.binary(max_size=60)), max_size=5),
    st.integers(0, len(SERVER_SIDE)),
)
def test_any_bodies_of_a_server(bodies: list[tuple[int, bytes]], good: int):
    login = new_login()
    login.start()
    try:
        for piece in SERVER_SIDE[:good] + [
            m.message(bytes((kind,)), body) for kind, body in bodies
        ]:
            if login.result is None:
                login.feed(piece)
    except (PeerProtocolError, UpstreamRefused, UpstreamUnavailable):
        pass


@given(st.data())
def test_one_changed_byte_of_a_server_never_gives_another_login(data: st.DataObject):
    """Whoever changes the SCRAM exchange ends the login, or changes nothing that counts."""
    stream = bytearray(b"".join(SERVER_SIDE[:4]))
    place = data.draw(st.integers(0, len(stream) - 1))
    stream[place] ^= data.draw(st.integers(1, 255))
    login = new_login()
    login.start()
    try:
        login.feed(bytes(stream) + b"".join(SERVER_SIDE[4:]))
    except (PeerProtocolError, UpstreamRefused, UpstreamUnavailable):
        return
    # A byte of a length may make the login wait; one of the mechanism list may name others.
    assert login.result is None or place < len(SERVER_SIDE[0])


@given(st.sampled_from(Method), st.lists(st.tuples(st.integers(0, 255), st.binary()), max_size=4))
def test_any_messages_of_a_client(method: Method, bodies: list[tuple[int, bytes]]):
    login = ClientLogin(b"bob", RULES[method], ClientPath(tls=True, private=True), RANDOM)
    login.start()
    for kind, body in bodies:
        if login.outcome is None:
            login.feed(kind, body)
    if method is Method.SCRAM:
        assert not isinstance(login.outcome, Authenticated)


FIRST_MESSAGES = st.one_of(
    st.binary(max_size=100),
    st.builds(
        lambda flag, bare: flag + b",," + bare,
        st.sampled_from([b"n", b"y", b"p=tls-server-end-point", b"p=x"]),
        st.one_of(st.binary(max_size=40), NAMES.map(lambda nonce: b"n=,r=" + nonce)),
    ),
)


@given(
    st.sampled_from([scram.MECHANISM, scram.MECHANISM_PLUS, b"X"]),
    FIRST_MESSAGES,
    st.one_of(
        st.binary(max_size=200),
        st.builds(
            lambda binding, nonce, proof: b"c=%b,r=%b,p=%b" % (binding, nonce, proof),
            st.sampled_from([b"biws", b"eSws", b"", b"*"]),
            st.sampled_from([b"x", b"x" + base64.b64encode(RANDOM)]),
            st.binary(max_size=40).map(base64.b64encode),
        ),
    ),
)
def test_crafted_scram_of_a_client(mechanism: bytes, first: bytes, final: bytes):
    login = ClientLogin(b"bob", RULES[Method.SCRAM], ClientPath(tls=True, private=True), RANDOM)
    login.start()
    login.feed(ord("p"), m.sasl_initial_response(mechanism.replace(b"\0", b""), first)[5:])
    if login.outcome is None:
        login.feed(ord("p"), final)
    assert isinstance(login.outcome, Refused)
    assert login.outcome.wire.sqlstate in ("08P01", "28000", "28P01")


@given(VALUES, VALUES, st.booleans())
def test_no_other_password_logs_in(password: bytes, tried: bytes, plus: bool):
    keys = [scram.keys_from(scram.salted_password(p, SALT, 1), SALT, 1) for p in (password, tried)]
    server = scram.ServerExchange(
        scram.verifier_from_keys(keys[0]), b"b" * 18, b"h" * 32 if plus else None
    )
    policy = scram.ChannelBinding.PREFER
    choice = scram.choose(server.mechanisms(), policy, b"h" * 32 if plus else None)
    assert choice
    client = scram.ClientExchange(choice, RANDOM)
    client.read_first(server.first(choice.mechanism, client.first()))
    final = server.final(client.final(keys[1]))
    assert (final is not None) == (prepare(password) == prepare(tried))
    if final is not None:
        client.check_final(final)
        assert server.keys == keys[1]


# ---- start-up packets ----


@given(st.binary(max_size=300), st.booleans(), st.booleans())
def test_any_first_bytes(data: bytes, ssl_done: bool, gss_done: bool):
    first = startup.read_first(data, ssl_done, gss_done)
    if isinstance(first, startup.Startup):
        assert first.user
        assert first.size <= len(data)


@given(
    st.sampled_from([2 << 16, 3 << 16, 3 << 16 | 2, 80877102, 80877103, 80877104]),
    st.binary(max_size=100),
)
def test_any_packet_of_a_known_kind(code: int, body: bytes):
    packet = (8 + len(body)).to_bytes(4) + code.to_bytes(4) + body
    first = startup.read_first(packet)
    assert not isinstance(first, startup.NeedMore | startup.DirectTls)
    for end in range(4, len(packet)):
        early = startup.read_first(packet[:end])
        assert isinstance(early, startup.NeedMore | startup.Refuse)
        if isinstance(early, startup.Refuse):  # refused for its length, so the whole is refused
            assert early == first


@given(st.dictionaries(NAMES, VALUES, max_size=8), NAMES, st.integers(0, 65535))
def test_startup_round_trip(params: dict[bytes, bytes], user: bytes, minor: int):
    params = {name: value for name, value in params.items() if name != b"replication"}
    params[b"user"] = user
    packet = m.startup(minor, params)
    first = startup.read_first(packet + b"rest")
    assert isinstance(first, startup.Startup)
    known = {name: value for name, value in params.items() if not name.startswith(b"_pq_.")}
    assert (first.params, first.user, first.size) == (known, user, len(packet))


# ---- readers ----

READERS = [
    m.parse_name_and_text,
    m.parse_oids,
    m.bind_names,
    m.bind_params,
    m.kind_and_name,
    m.execute_portal,
    m.read_parameter_status,
    m.read_ready_status,
    m.read_command_tag,
    m.read_authentication,
    m.read_mechanisms,
    m.read_backend_key,
    m.read_negotiation,
    m.data_row,
    m.cstring,
]


@given(st.binary(max_size=80))
@settings(max_examples=300)
def test_any_body(body: bytes):
    for read in READERS:
        try:
            read(body)
        except PeerProtocolError:
            continue
    fields = m.error_fields(body)
    assert len(say.last_words(fields)) <= 400
    m.is_fatal(fields)
    assert server_end_point(body) is None


@given(st.binary(max_size=40), st.binary(max_size=10), st.binary(max_size=10))
def test_readers_see_nothing_around_the_body(body: bytes, before: bytes, after: bytes):
    buf, pos, end = before + body + after, len(before), len(before) + len(body)
    for read in (m.parse_name_and_text, m.parse_oids, m.bind_params, m.read_negotiation):
        assert outcome(read, buf, pos, end) == outcome(read, body)


def outcome(read: object, *where: object) -> object:
    try:
        return read(*where)  # type: ignore[operator]
    except PeerProtocolError as error:
        return str(error)


@given(st.lists(st.one_of(st.none(), st.binary(max_size=20)), max_size=20))
def test_rows_and_binds_round_trip(values: list[bytes | None]):
    assert m.data_row(m.row(values)[5:]) == values
    assert m.bind_params(m.bind("p", "s", values, [1], [0, 1])[5:]) == values


@given(
    st.dictionaries(
        st.sampled_from("SVCMDHRF"), st.text(max_size=20).filter(lambda t: "\0" not in t)
    )
)
def test_error_fields_round_trip(fields: dict[str, str]):
    assert m.error_fields(m.error_response(fields)[5:]) == fields


@given(
    st.one_of(
        st.binary(max_size=60), st.text(max_size=20).map(lambda t: t.encode("utf-8", "replace"))
    )
)
def test_saslprep_never_raises_nor_empties(password: bytes):
    prepared = prepare(password)
    assert bool(prepared) == bool(password)
    if password.isascii():
        assert prepared == password
