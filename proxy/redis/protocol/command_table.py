"""Commands known when the upstream does not tell. Generated; do not edit.

Made by tools/redis_command_table.py from Valkey 9.1.2. One entry: name, arity, flags
(r readonly, w write, b blocking, a admin, p pubsub, - none), then key specifications:
R or W (reads, writes), `?` (nobody can tell), or begin and find. Begin is an index or
`KEYWORD@startfrom`; find is `.last.step.limit` (a range) or `#countat.step.first` (counted keys).
"""

from typing import Final

from proxy.redis.protocol.commands import FLAG_LETTERS, Command, CommandTable, KeySpec

TABLE: Final = """
acl -2 -; acl|cat -2 -; acl|deluser -3 a; acl|dryrun -4 a; acl|genpass -2 -; acl|getuser 3 a;
acl|help 2 -; acl|list 2 a; acl|load 2 a; acl|log -2 a; acl|save 2 a; acl|setuser -3 a; acl|users
2 a; acl|whoami 2 -; append 3 w W1.0.1.0; asking 1 -; auth -2 -; bgrewriteaof 1 a; bgsave -1 a;
bitcount -2 r R1.0.1.0; bitfield -2 w W1.0.1.0; bitfield_ro -2 r R1.0.1.0; bitop -4 w W2.0.1.0
R3.-1.1.0; bitpos -3 r R1.0.1.0; blmove 6 wb W1.0.1.0 W2.0.1.0; blmpop -5 wb W2#0.1.1; blpop -3 wb
W1.-2.1.0; brpop -3 wb W1.-2.1.0; brpoplpush 4 wb W1.0.1.0 W2.0.1.0; bzmpop -5 wb W2#0.1.1;
bzpopmax -3 wb W1.-2.1.0; bzpopmin -3 wb W1.-2.1.0; client -2 -; client|caching 3 -; client|capa
-3 -; client|getname 2 -; client|getredir 2 -; client|help 2 -; client|id 2 -;
client|import-source 3 -; client|info 2 -; client|kill -3 a; client|list -2 a; client|no-evict 3
a; client|no-touch 3 -; client|pause -3 a; client|reply 3 -; client|setinfo 4 -; client|setname 3
-; client|tracking -3 -; client|trackinginfo 2 -; client|unblock -3 a; client|unpause 2 a; cluster
-2 -; clusterscan -2 r R1.0.1.0; cluster|addslots -3 a; cluster|addslotsrange -4 a;
cluster|bumpepoch 2 a; cluster|cancelslotmigrations 2 a; cluster|count-failure-reports 3 a;
cluster|countkeysinslot 3 -; cluster|delslots -3 a; cluster|delslotsrange -4 a; cluster|failover
-2 a; cluster|flushslot -3 wa; cluster|flushslots 2 a; cluster|forget 3 a; cluster|getkeysinslot 4
-; cluster|getslotmigrations 2 a; cluster|help 2 -; cluster|info 2 -; cluster|keyslot 3 -;
cluster|links 2 -; cluster|meet -4 a; cluster|migrateslots -4 a; cluster|myid 2 -;
cluster|myshardid 2 -; cluster|nodes 2 -; cluster|replicas 3 a; cluster|replicate -3 a;
cluster|reset -2 a; cluster|saveconfig 2 a; cluster|set-config-epoch 3 a; cluster|setslot -4 a;
cluster|shards 2 -; cluster|slaves 3 a; cluster|slot-stats -4 -; cluster|slots 2 -;
cluster|syncslots -3 a; command -1 -; commandlog -2 -; commandlog|get 4 a; commandlog|help 2 -;
commandlog|len 3 a; commandlog|reset 3 a; command|count 2 -; command|docs -2 -; command|getkeys -3
-; command|getkeysandflags -3 -; command|help 2 -; command|info -2 -; command|list -2 -; config -2
-; config|get -3 a; config|help 2 -; config|resetstat 2 a; config|rewrite 2 a; config|set -4 a;
copy -3 w R1.0.1.0 W2.0.1.0; dbsize 1 r; debug -2 a; decr 2 w W1.0.1.0; decrby 3 w W1.0.1.0; del
-2 w W1.-1.1.0; delifeq 3 w W1.0.1.0; discard 1 -; dump 2 r R1.0.1.0; echo 2 -; eval -3 -
W2#0.1.1; evalsha -3 - W2#0.1.1; evalsha_ro -3 r R2#0.1.1; eval_ro -3 r R2#0.1.1; exec 1 -; exists
-2 r R1.-1.1.0; expire -3 w W1.0.1.0; expireat -3 w W1.0.1.0; expiretime 2 r R1.0.1.0; failover -1
a; fcall -3 - W2#0.1.1; fcall_ro -3 r R2#0.1.1; flushall -1 w; flushdb -1 w; function -2 -;
function|delete 3 w; function|dump 2 -; function|flush -2 w; function|help 2 -; function|kill 2 -;
function|list -2 -; function|load -3 w; function|restore -3 w; function|stats 2 -; geoadd -5 w
W1.0.1.0; geodist -4 r R1.0.1.0; geohash -2 r R1.0.1.0; geopos -2 r R1.0.1.0; georadius -6 w
R1.0.1.0 WSTORE@6.0.1.0 WSTOREDIST@6.0.1.0; georadiusbymember -5 w R1.0.1.0 WSTORE@5.0.1.0
WSTOREDIST@5.0.1.0; georadiusbymember_ro -5 r R1.0.1.0; georadius_ro -6 r R1.0.1.0; geosearch -7 r
R1.0.1.0; geosearchstore -8 w W1.0.1.0 R2.0.1.0; get 2 r R1.0.1.0; getbit 3 r R1.0.1.0; getdel 2 w
W1.0.1.0; getex -2 w W1.0.1.0; getrange 4 r R1.0.1.0; getset 3 w W1.0.1.0; hdel -3 w W1.0.1.0;
hello -1 -; hexists 3 r R1.0.1.0; hexpire -6 w W1.0.1.0; hexpireat -6 w W1.0.1.0; hexpiretime -5 r
R1.0.1.0; hget 3 r R1.0.1.0; hgetall 2 r R1.0.1.0; hgetdel -5 w W1.0.1.0; hgetex -5 w W1.0.1.0;
hincrby 4 w W1.0.1.0; hincrbyfloat 4 w W1.0.1.0; hkeys 2 r R1.0.1.0; hlen 2 r R1.0.1.0; hmget -3 r
R1.0.1.0; hmset -4 w W1.0.1.0; hpersist -5 w W1.0.1.0; hpexpire -6 w W1.0.1.0; hpexpireat -6 w
W1.0.1.0; hpexpiretime -5 r R1.0.1.0; hpttl -5 r R1.0.1.0; hrandfield -2 r R1.0.1.0; hscan -3 r
R1.0.1.0; hset -4 w W1.0.1.0; hsetex -6 w W1.0.1.0; hsetnx 4 w W1.0.1.0; hstrlen 3 r R1.0.1.0;
httl -5 r R1.0.1.0; hvals 2 r R1.0.1.0; incr 2 w W1.0.1.0; incrby 3 w W1.0.1.0; incrbyfloat 3 w
W1.0.1.0; info -1 -; keys 2 r; lastsave 1 -; latency -2 -; latency|doctor 2 a; latency|graph 3 a;
latency|help 2 -; latency|histogram -2 a; latency|history 3 a; latency|latest 2 a; latency|reset
-2 a; lcs -3 r R1.1.1.0; lindex 3 r R1.0.1.0; linsert 5 w W1.0.1.0; llen 2 r R1.0.1.0; lmove 5 w
W1.0.1.0 W2.0.1.0; lmpop -4 w W1#0.1.1; lolwut -1 r; lpop -2 w W1.0.1.0; lpos -3 r R1.0.1.0; lpush
-3 w W1.0.1.0; lpushx -3 w W1.0.1.0; lrange 4 r R1.0.1.0; lrem 4 w W1.0.1.0; lset 4 w W1.0.1.0;
ltrim 4 w W1.0.1.0; memory -2 -; memory|doctor 2 -; memory|help 2 -; memory|malloc-stats 2 -;
memory|purge 2 -; memory|stats 2 -; memory|usage -3 r R2.0.1.0; mget -2 r R1.-1.1.0; migrate -6 w
W3.0.1.0 W?; module -2 -; module|help 2 -; module|list 2 a; module|load -3 a; module|loadex -3 a;
module|unload 3 a; monitor 1 a; move 3 w W1.0.1.0; mset -3 w W1.-1.2.0; msetex -4 w W1#0.2.1;
msetnx -3 w W1.-1.2.0; multi 1 -; object -2 -; object|encoding 3 r R2.0.1.0; object|freq 3 r
R2.0.1.0; object|help 2 -; object|idletime 3 r R2.0.1.0; object|refcount 3 r R2.0.1.0; persist 2 w
W1.0.1.0; pexpire -3 w W1.0.1.0; pexpireat -3 w W1.0.1.0; pexpiretime 2 r R1.0.1.0; pfadd -2 w
W1.0.1.0; pfcount -2 r W1.-1.1.0; pfdebug 3 wa W2.0.1.0; pfmerge -2 w W1.0.1.0 R2.-1.1.0;
pfselftest 1 a; ping -1 -; psetex 4 w W1.0.1.0; psubscribe -2 p; psync -3 a; pttl 2 r R1.0.1.0;
publish 3 p; pubsub -2 -; pubsub|channels -2 p; pubsub|help 2 -; pubsub|numpat 2 p; pubsub|numsub
-2 p; pubsub|shardchannels -2 p; pubsub|shardnumsub -2 p; punsubscribe -1 p; quit -1 -; randomkey
1 r; readonly 1 -; readwrite 1 -; rename 3 w W1.0.1.0 W2.0.1.0; renamenx 3 w W1.0.1.0 W2.0.1.0;
replconf -1 a; replicaof 3 a; reset 1 -; restore -4 w W1.0.1.0; restore-asking -4 w W1.0.1.0; role
1 -; rpop -2 w W1.0.1.0; rpoplpush 3 w W1.0.1.0 W2.0.1.0; rpush -3 w W1.0.1.0; rpushx -3 w
W1.0.1.0; sadd -3 w W1.0.1.0; save 1 a; scan -2 r; scard 2 r R1.0.1.0; script -2 -; script|debug
-3 -; script|exists -3 -; script|flush -2 -; script|help 2 -; script|kill 2 -; script|load 3 -;
script|show 3 -; sdiff -2 r R1.-1.1.0; sdiffstore -3 w W1.0.1.0 R2.-1.1.0; select 2 -; set -3 w
W1.0.1.0; setbit 4 w W1.0.1.0; setex 4 w W1.0.1.0; setnx 3 w W1.0.1.0; setrange 4 w W1.0.1.0;
shutdown -1 a; sinter -2 r R1.-1.1.0; sintercard -3 r R1#0.1.1; sinterstore -3 w W1.0.1.0
R2.-1.1.0; sismember 3 r R1.0.1.0; slaveof 3 a; slowlog -2 -; slowlog|get -2 a; slowlog|help 2 -;
slowlog|len 2 a; slowlog|reset 2 a; smembers 2 r R1.0.1.0; smismember -3 r R1.0.1.0; smove 4 w
W1.0.1.0 W2.0.1.0; sort -2 w R1.0.1.0 R? W?; sort_ro -2 r R1.0.1.0 R?; spop -2 w W1.0.1.0;
spublish 3 p R1.0.1.0; srandmember -2 r R1.0.1.0; srem -3 w W1.0.1.0; sscan -3 r R1.0.1.0;
ssubscribe -2 p R1.-1.1.0; strlen 2 r R1.0.1.0; subscribe -2 p; substr 4 r R1.0.1.0; sunion -2 r
R1.-1.1.0; sunionstore -3 w W1.0.1.0 R2.-1.1.0; sunsubscribe -1 p R1.-1.1.0; swapdb 3 w; sync 1 a;
time 1 -; touch -2 r R1.-1.1.0; ttl 2 r R1.0.1.0; type 2 r R1.0.1.0; unlink -2 w W1.-1.1.0;
unsubscribe -1 p; unwatch 1 -; wait 3 b; waitaof 4 b; watch -2 - R1.-1.1.0; xack -4 w W1.0.1.0;
xadd -5 w W1.0.1.0; xautoclaim -6 w W1.0.1.0; xclaim -6 w W1.0.1.0; xdel -3 w W1.0.1.0; xgroup -2
-; xgroup|create -5 w W2.0.1.0; xgroup|createconsumer 5 w W2.0.1.0; xgroup|delconsumer 5 w
W2.0.1.0; xgroup|destroy 4 w W2.0.1.0; xgroup|help 2 -; xgroup|setid -5 w W2.0.1.0; xinfo -2 -;
xinfo|consumers 4 r R2.0.1.0; xinfo|groups 3 r R2.0.1.0; xinfo|help 2 -; xinfo|stream -3 r
R2.0.1.0; xlen 2 r R1.0.1.0; xpending -3 r R1.0.1.0; xrange -4 r R1.0.1.0; xread -4 rb
RSTREAMS@1.-1.1.2; xreadgroup -7 wb RSTREAMS@4.-1.1.2; xrevrange -4 r R1.0.1.0; xsetid -3 w
W1.0.1.0; xtrim -4 w W1.0.1.0; zadd -4 w W1.0.1.0; zcard 2 r R1.0.1.0; zcount 4 r R1.0.1.0; zdiff
-3 r R1#0.1.1; zdiffstore -4 w W1.0.1.0 R2#0.1.1; zincrby 4 w W1.0.1.0; zinter -3 r R1#0.1.1;
zintercard -3 r R1#0.1.1; zinterstore -4 w W1.0.1.0 R2#0.1.1; zlexcount 4 r R1.0.1.0; zmpop -4 w
W1#0.1.1; zmscore -3 r R1.0.1.0; zpopmax -2 w W1.0.1.0; zpopmin -2 w W1.0.1.0; zrandmember -2 r
R1.0.1.0; zrange -4 r R1.0.1.0; zrangebylex -4 r R1.0.1.0; zrangebyscore -4 r R1.0.1.0;
zrangestore -5 w W1.0.1.0 R2.0.1.0; zrank -3 r R1.0.1.0; zrem -3 w W1.0.1.0; zremrangebylex 4 w
W1.0.1.0; zremrangebyrank 4 w W1.0.1.0; zremrangebyscore 4 w W1.0.1.0; zrevrange -4 r R1.0.1.0;
zrevrangebylex -4 r R1.0.1.0; zrevrangebyscore -4 r R1.0.1.0; zrevrank -3 r R1.0.1.0; zscan -3 r
R1.0.1.0; zscore 3 r R1.0.1.0; zunion -3 r R1#0.1.1; zunionstore -4 w W1.0.1.0 R2#0.1.1
"""


def _spec(text: str) -> KeySpec:
    writes = text[0] == "W"
    if text[1] == "?":
        return KeySpec(writes, 0)
    counted = "#" in text
    begin, numbers = text[1:].split("#" if counted else ".", 1)
    last, step, limit = (int(number) for number in numbers.split("."))
    word, _, index = begin.rpartition("@")
    return KeySpec(writes, int(index), word.encode(), counted, last, step, limit)


def _command(entry: str) -> Command:
    name, arity, letters, *specs = entry.split()
    flags = sum(FLAG_LETTERS.get(letter, 0) for letter in letters)
    keys = tuple(_spec(spec) for spec in specs)
    return Command(name.upper().encode(), int(arity), flags, keys)


def fallback_table() -> CommandTable:
    """A table that is not complete: the upstream may have commands it does not know."""
    entries = " ".join(TABLE.split()).split(";")
    return CommandTable((_command(entry) for entry in entries if entry.strip()), complete=False)
