"""Commands for twin tests: run in order against two empty servers, the raw replies must be equal.

One command a line, words as a shell would split them. `~` in front: the reply's value depends on
the moment or the connection, only its type is compared. `+N` in front: N frames answer it.
Every line must be repeatable on Redis 7.0 in both RESP versions, and leave no exclusive state
behind at the end of its group.
"""

import shlex
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Case:
    """One command; `frames` replies are due; `exact`: these must be equal byte for byte."""

    words: tuple[str, ...]
    frames: int = 1
    exact: bool = True

    def __str__(self) -> str:
        return " ".join(self.words)[:60]


STRINGS: Final = r"""
SET s:a hello
GET s:a
SET s:a world NX
SET s:a world XX GET
SET s:b 10 EX 1000
TTL s:b
PTTL s:missing
EXPIRE s:b 500
EXPIRE s:b 500 NX
PERSIST s:b
EXPIREAT s:b 32503680000
EXPIRETIME s:b
PEXPIRETIME s:b
SETEX s:c 100 v
PSETEX s:d 100000 v
SETNX s:a x
SETNX s:e x
APPEND s:a !!
STRLEN s:a
STRLEN s:missing
GETRANGE s:a 0 2
SUBSTR s:a 1 3
SETRANGE s:a 2 XX
GETSET s:a new
GETDEL s:e
GETEX s:a EX 100
GETEX s:a PERSIST
INCR n:a
INCRBY n:a 41
DECR n:a
DECRBY n:a 2
INCRBYFLOAT n:a 0.5
INCR s:a
MSET m:1 a m:2 b m:3 c
MGET m:1 m:missing m:3
MSETNX m:1 x m:9 y
EXISTS m:1 m:2 m:missing
TYPE m:1
TYPE missing
DEL m:1 m:missing
UNLINK m:2
COPY m:3 m:4
COPY m:3 m:4 REPLACE
RENAME m:4 m:5
RENAMENX m:5 m:3
RENAME missing x
TOUCH m:3 m:5
OBJECT ENCODING m:3
OBJECT REFCOUNT m:3
OBJECT FREQ m:3
LCS m:3 m:5
LCS s:a m:3 LEN
SETBIT b:a 7 1
SETBIT b:a 100 1
GETBIT b:a 7
BITCOUNT b:a
BITCOUNT b:a 0 0
BITPOS b:a 1
BITOP NOT b:b b:a
BITFIELD b:f SET u8 0 200 GET u8 0 INCRBY u8 0 100
BITFIELD b:f OVERFLOW FAIL INCRBY u8 0 100
BITFIELD_RO b:f GET u8 0
PFADD h:a x y z
PFADD h:b z w
PFCOUNT h:a h:b
PFMERGE h:c h:a h:b
PFCOUNT h:c
"""

HASHES: Final = r"""
HSET h a 1 b 2 c 3
HSET h a 9
HSETNX h a 8
HMSET h d 4 e 5
HGET h a
HGET h missing
HGET missing a
HMGET h a missing c
HGETALL h
HGETALL missing
HKEYS h
HVALS h
HLEN h
HEXISTS h a
HEXISTS h z
HSTRLEN h a
HINCRBY h a 5
HINCRBYFLOAT h a 0.25
HDEL h b missing
HSCAN h 0
HSCAN h 0 MATCH a* COUNT 10
HRANDFIELD missing
HRANDFIELD missing 2
HSET one f v
HRANDFIELD one
HRANDFIELD one 1 WITHVALUES
HGET s:a f
HSET h odd
"""

LISTS: Final = r"""
RPUSH l a b c d
LPUSH l z
LPUSHX missing x
RPUSHX l e
LLEN l
LRANGE l 0 -1
LRANGE l 1 2
LRANGE missing 0 -1
LINDEX l 0
LINDEX l 99
LINSERT l BEFORE b aa
LINSERT l AFTER missing x
LSET l 0 first
LSET l 99 x
LPOS l c
LPOS l missing
LPOS l c COUNT 0
LREM l 1 aa
LTRIM l 0 5
LPOP l
LPOP l 2
LPOP missing
LPOP missing 2
RPOP l
RPOP l 10
RPUSH l 1 2 3 4
LMOVE l l2 LEFT RIGHT
RPOPLPUSH l l2
LMPOP 2 missing l LEFT COUNT 2
LMPOP 1 missing LEFT
SORT l2
SORT l2 DESC ALPHA
SORT l2 STORE l3
SORT_RO l2 LIMIT 0 1
BLPOP l2 1
BLPOP missing 0.01
BRPOP l2 1
BRPOP missing 0.01
RPUSH l4 a b c
BLMOVE l4 l5 LEFT RIGHT 1
BLMOVE missing l5 LEFT RIGHT 0.01
BRPOPLPUSH l4 l5 1
BRPOPLPUSH missing l5 0.01
BLMPOP 0.01 1 missing LEFT
BLMPOP 1 1 l4 LEFT COUNT 5
"""

SETS: Final = r"""
SADD s a b c
SADD s a
SADD s2 b c d
SADD one x
SCARD s
SISMEMBER s a
SISMEMBER s z
SMISMEMBER s a z
SMEMBERS one
SMEMBERS missing
SINTERCARD 2 s s2
SINTERSTORE s3 s s2
~SDIFF s s2
SDIFFSTORE s4 s s2
SUNIONSTORE s5 s s2
SINTER s missing
SUNION missing
SREM s c missing
SMOVE s s2 a
SPOP one
SPOP missing
SPOP missing 3
SRANDMEMBER missing
SRANDMEMBER missing 2
SSCAN one 0
"""

ZSETS: Final = r"""
ZADD z 1 a 2 b 3 c 4 d
ZADD z XX CH 5 a
ZADD z NX INCR 1 a
ZADD z INCR 1 b
ZADD z2 10 a 20 e
ZADD zl 0 a 0 b 0 c 0 d
ZCARD z
ZCOUNT z 2 4
ZCOUNT z (2 +inf
ZLEXCOUNT zl [a (c
ZSCORE z a
ZSCORE z missing
ZMSCORE z a missing
ZRANK z a
ZRANK z missing
ZREVRANK z a
ZINCRBY z 2.5 a
ZRANGE z 0 -1
ZRANGE z 0 -1 WITHSCORES
ZRANGE z (1 5 BYSCORE LIMIT 0 2
ZRANGE zl [a [c BYLEX
ZRANGE z 0 -1 REV WITHSCORES
ZRANGE missing 0 -1 WITHSCORES
ZREVRANGE z 0 1 WITHSCORES
ZRANGEBYSCORE z -inf +inf WITHSCORES
ZRANGEBYSCORE z 1 3
ZREVRANGEBYSCORE z +inf -inf
ZRANGEBYLEX zl - +
ZREVRANGEBYLEX zl + -
ZRANGESTORE z3 z 0 1
ZUNION 2 z z2 WITHSCORES
ZINTER 2 z z2
ZDIFF 2 z z2 WITHSCORES
ZINTERCARD 2 z z2
ZUNIONSTORE z4 2 z z2 WEIGHTS 2 3 AGGREGATE MAX
ZINTERSTORE z5 2 z z2
ZDIFFSTORE z6 2 z z2
ZREM z a missing
ZREMRANGEBYRANK z 0 0
ZREMRANGEBYSCORE z 100 200
ZREMRANGEBYLEX zl [a [a
ZPOPMIN z
ZPOPMAX z2 1
ZPOPMIN missing
ZPOPMAX z 10
ZADD z7 1 a 2 b
ZMPOP 1 z7 MIN
ZMPOP 1 missing MIN
BZPOPMIN z7 1
BZPOPMIN missing 0.01
BZPOPMAX missing 0.01
BZMPOP 0.01 1 missing MAX
ZADD z8 1.5 a
BZMPOP 1 1 z8 MIN
ZADD z9 inf a -inf b
ZRANGE z9 0 -1 WITHSCORES
ZSCAN z9 0
ZRANDMEMBER missing
ZRANDMEMBER missing 2 WITHSCORES
ZADD zone 1 a
ZRANDMEMBER zone 1 WITHSCORES
"""

GEO_AND_STREAMS: Final = r"""
GEOADD g 13.361389 38.115556 Palermo 15.087269 37.502669 Catania
GEODIST g Palermo Catania km
GEODIST g Palermo Missing
GEOHASH g Palermo Missing
GEOPOS g Palermo Missing
GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 200 km ASC WITHCOORD WITHDIST
GEORADIUS g 15 37 200 km ASC
GEORADIUSBYMEMBER_RO g Palermo 200 km ASC
GEOSEARCHSTORE g2 g FROMLONLAT 15 37 BYRADIUS 200 km
XADD x 1-1 a 1 b 2
XADD x 2-1 a 3
XADD x NOMKSTREAM MAXLEN ~ 100 3-1 c 4
XADD x 1-1 late 1
XADD missing NOMKSTREAM 5-1 a 1
XLEN x
XRANGE x - +
XRANGE x - + COUNT 1
XREVRANGE x + - COUNT 1
XREAD COUNT 2 STREAMS x 0
XREAD STREAMS x 99
XREAD BLOCK 10 STREAMS x $
XREAD BLOCK 1000 STREAMS x 2-1
XGROUP CREATE x grp 0
XGROUP CREATE x grp 0
XGROUP CREATECONSUMER x grp bob
XREADGROUP GROUP grp alice COUNT 1 STREAMS x >
XREADGROUP GROUP grp alice STREAMS x 0
XREADGROUP GROUP grp alice BLOCK 10 COUNT 10 STREAMS x >
XREADGROUP GROUP grp alice BLOCK 10 STREAMS x >
XPENDING x grp
XACK x grp 1-1
XAUTOCLAIM x grp bob 100000 0
XSETID x 9-1
XINFO STREAM missing
XDEL x 2-1
XTRIM x MAXLEN 1
XGROUP DELCONSUMER x grp bob
XGROUP DESTROY x grp
"""

CONNECTION: Final = r"""
PING
PING hello
ECHO hi
SELECT 0
SELECT 3
SET in3 v
SELECT 0
GET in3
SELECT 99
SELECT -1
SELECT abc
SELECT
MOVE m:3 2
CLIENT SETNAME worker-1
CLIENT GETNAME
CLIENT SETNAME "bad name"
CLIENT SETNAME ""
CLIENT GETNAME
~CLIENT ID
~CLIENT INFO
~CLIENT LIST
CLIENT NOSUCH
CLIENT
CLIENT REPLY maybe
CLIENT REPLY ON
CLIENT SETINFO LIB-NAME twin
CLIENT NO-EVICT on
CLIENT NO-EVICT off
CLIENT GETREDIR
CLIENT TRACKINGINFO
CLIENT TRACKING off
CLIENT UNBLOCK 999999
CLIENT KILL ID 999999
CLIENT PAUSE 0
CLIENT UNPAUSE
~CLIENT HELP
AUTH nopass
AUTH a b c
AUTH
HELLO 4
HELLO abc
HELLO 3 NOSUCH
NOSUCHCOMMAND a b
GET
GET a b c
SUBSCRIBE
DISCARD
EXEC
UNWATCH
WAIT 0 10
READONLY
READWRITE
ASKING
LOLWUT VERSION 5 1 1 1
COMMAND COUNT
COMMAND INFO get set
COMMAND GETKEYS MSET a 1 b 2
COMMAND DOCS get
DBSIZE
~TIME
~INFO server
~LASTSAVE
ROLE
CONFIG GET maxmemory-policy
CONFIG GET nosuchthing
CONFIG SET nosuchthing 1
SLOWLOG LEN
SLOWLOG GET 0
MEMORY USAGE missing
MEMORY DOCTOR
LATENCY RESET
ACL WHOAMI
ACL CAT nosuch
MODULE LIST
CLUSTER INFO
PUBSUB CHANNELS
PUBSUB NUMSUB a
PUBSUB NUMPAT
PUBLISH nobody hello
SPUBLISH nobody hello
DUMP missing
RESTORE bad 0 garbage
RANDOMKEY x
SWAPDB 1 2
"""

SCRIPTS: Final = r"""
EVAL "return 1" 0
EVAL "return {1,2,{3,'four'}}" 0
EVAL "return redis.call('SET',KEYS[1],ARGV[1])" 1 ev:a v
EVAL "return redis.call('GET',KEYS[1])" 1 ev:a
EVAL "return redis.error_reply('MY oops')" 0
EVAL "redis.setresp(3); return redis.call('HGETALL',KEYS[1])" 1 h
EVAL "redis.setresp(3); return {double=3.5}" 0
EVAL "redis.setresp(3); return true" 0
EVAL "syntax error here(" 0
EVAL_RO "return redis.call('GET',KEYS[1])" 1 ev:a
SCRIPT LOAD "return 'cached'"
EVALSHA 4ca238f611c9d0ae4e9a75a5dbac22aedc1e44dc 0
EVALSHA ffffffffffffffffffffffffffffffffffffffff 0
SCRIPT EXISTS ffffffffffffffffffffffffffffffffffffffff
SCRIPT FLUSH
FUNCTION LIST
FUNCTION LOAD "#!lua name=mylib\nredis.register_function('f1', function(k,a) return a[1] end)"
FCALL f1 0 hello
FUNCTION DELETE mylib
FCALL f1 0 hello
"""

TRANSACTIONS: Final = r"""
MULTI
SET tx:a 1
INCR tx:a
GET tx:a
EXEC
MULTI
SET tx:a 5
DISCARD
GET tx:a
MULTI
SET tx:a
GET tx:a
EXEC
MULTI
MULTI
INCR tx:a
EXEC
WATCH tx:a
MULTI
SET tx:a 7
EXEC
WATCH tx:a
SET tx:a 8
MULTI
SET tx:a 9
EXEC
GET tx:a
WATCH tx:a
UNWATCH
MULTI
EXEC
MULTI
SELECT 1
SET tx:in1 v
EXEC
GET tx:in1
SELECT 0
MULTI
WATCH x
EXEC
MULTI
BLPOP missing 0
EXEC
MULTI
INCR s:a
HGETALL h
EXEC
EXEC
"""

PUBSUB: Final = r"""
SUBSCRIBE ch1
+2 SUBSCRIBE ch2 ch3
PSUBSCRIBE pat*
PING
PING hello
UNSUBSCRIBE ch1
~+2 UNSUBSCRIBE
PUNSUBSCRIBE
UNSUBSCRIBE
PUNSUBSCRIBE pat*
SSUBSCRIBE shard1
SUNSUBSCRIBE shard1
SUNSUBSCRIBE
PING
RESET
PING
"""

SERVER: Final = r"""
~KEYS s:*
SCAN 0 MATCH nosuch* COUNT 100000
DEBUG SLEEP 0
FLUSHDB
DBSIZE
FLUSHALL ASYNC
GET s:a
"""

_GROUPS: Final = {
    "strings": STRINGS,
    "hashes": HASHES,
    "lists": LISTS,
    "sets": SETS,
    "sorted sets": ZSETS,
    "geo and streams": GEO_AND_STREAMS,
    "connection": CONNECTION,
    "scripts": SCRIPTS,
    "transactions": TRANSACTIONS,
    "pub/sub": PUBSUB,
    "server": SERVER,
}

_PROTOCOL_KINDS: Final = "string integer double null array set map attrib bignum true false"
DEBUG_PROTOCOL: Final = (*_PROTOCOL_KINDS.split(), "verbatim")


def _case(line: str) -> Case:
    exact, frames = True, 1
    if line.startswith("~"):
        exact, line = False, line[1:]
    if line.startswith("+"):
        count, _, line = line[1:].partition(" ")
        frames = int(count)
    return Case(tuple(word.replace("\\n", "\n") for word in shlex.split(line)), frames, exact)


GROUPS: Final = {
    name: [_case(line) for line in text.strip().splitlines()] for name, text in _GROUPS.items()
}
