// Scenarios with ioredis: `node node_redis.js URL [DIRECT_URL]` prints the results as one line of JSON.
// With DIRECT_URL the server kills every link but that one, in the middle of the work.
'use strict'
const Redis = require('ioredis')

const [url, direct] = process.argv.slice(2)

async function withClient(options, work) {
  const client = new Redis(url, { maxRetriesPerRequest: 0, retryStrategy: () => null, ...options })
  try {
    return await work(client)
  } finally {
    client.disconnect()
  }
}

async function failure(promise) {
  try {
    return ['no error', await promise]
  } catch (error) {
    return error.message
  }
}

async function until(condition) {
  while (!await condition()) await new Promise((resolve) => setTimeout(resolve, 2))
}

function numbers(count) {
  return Array.from({ length: count }, (_, n) => n)
}

const scenarios = {
  types: () => withClient({}, async (client) => [
    await client.set('s', 'ü\0x'), await client.get('s'), await client.getBuffer('s'), await client.get('none'),
    await client.hset('h', { a: 1, b: 'two' }), await client.hgetall('h'), await client.hgetall('none'),
    await client.zadd('z', 1.5, 'm', 2, 'n'), await client.zrange('z', 0, -1, 'WITHSCORES'),
    await client.rpush('l', ...numbers(5)), await client.lrange('l', 1, 3), await client.mget('s', 'none', 's'),
    await client.sadd('set', 'x'), await client.smembers('set'), await client.incrbyfloat('f', 0.25),
    await failure(client.incr('s')), await failure(client.call('NOSUCH', 'x')), await failure(client.call('GET')),
  ]),

  pipeline: () => withClient({}, async (client) => {
    const work = client.pipeline()
    for (const n of numbers(500)) work.set(`p${n % 7}`, n).get(`p${n % 7}`).incr('total')
    work.lpush('p1', 'wrong type').get('p1')
    return (await work.exec()).map(([error, reply]) => error ? error.message : reply)
  }),

  multi: () => withClient({}, async (client) => {
    await client.set('tm', '0')
    const good = await client.multi().incr('tm').get('tm').hset('tm', 'f', 1).incr('tm').exec()
    const early = await failure(client.multi().set('tm').incr('tm').exec())
    await client.multi({ pipeline: false })
    const queued = await client.set('tm', 'x')
    return [good.map(([error, reply]) => error ? error.message : reply), early, queued, await client.exec(),
      await client.get('tm')]
  }),

  watch: () => withClient({}, (client) => withClient({}, async (other) => {
    await client.watch('w')
    await other.set('w', 'theirs')
    const lost = await client.multi().set('w', 'mine').exec()
    await client.watch('w')
    return [lost, await client.multi().append('w', '!').exec(), await client.get('w')]
  })),

  pubsub: () => withClient({}, (listener) => withClient({}, async (speaker) => {
    const heard = []
    listener.on('message', (channel, text) => heard.push([channel, text]))
    listener.on('pmessage', (pattern, channel, text) => heard.push([pattern, channel, text]))
    const counts = [await listener.subscribe('one', 'two'), await listener.psubscribe('t*')]
    for (const channel of ['one', 'two', 'three']) counts.push(await speaker.publish(channel, `to ${channel}`))
    await until(() => heard.length === 4)
    counts.push(await listener.unsubscribe('one', 'two'), await listener.punsubscribe('t*'))
    return [counts, heard.sort(), await listener.get('none'), await failure(listener.ping('still here'))]
  })),

  blocking: () => withClient({}, (waiter) => withClient({}, async (giver) => {
    const waits = [waiter.blpop('q1', 'q2', 0), waiter.brpop('none', 0.05), waiter.get('none')]
    const stream = giver.duplicate()
    const read = stream.xread('BLOCK', 0, 'STREAMS', 'events', '0')
    await giver.rpush('q2', 'item')
    await giver.xadd('events', '1-1', 'field', 'value')
    const found = [...await Promise.all(waits), await read, await giver.llen('q2')]
    stream.disconnect()
    return found
  })),

  scripts: () => withClient({}, async (client) => {
    client.defineCommand('bump', { numberOfKeys: 1, lua: "return {redis.call('INCRBY', KEYS[1], ARGV[1]), ARGV[1]}" })
    await client.script('FLUSH')
    const found = [await client.bump('b', 5), await client.bump('b', 6), await client.get('b')]
    await client.script('FLUSH')
    found.push((await client.pipeline().bump('b', 7).get('b').exec()).map(([, reply]) => reply))
    found.push(await failure(client.evalsha('0'.repeat(40), 0)))
    return found
  }),

  autoPipelining: () => withClient({ enableAutoPipelining: true }, async (client) => {
    await client.set('auto', '1')
    const many = await Promise.all(numbers(400).map((n) => n % 3 ? client.get('auto') : client.incr('count')))
    return [many, await Promise.all([client.set('auto', '2'), client.get('auto')])]
  }),

  sessions: () => withClient({ db: 3, connectionName: 'named' }, async (client) => {
    await client.set('in3', 'x')
    const found = [await client.get('in3'), await client.client('GETNAME'), await client.select(0), await client.exists('in3')]
    await client.select(3)
    return [...found, await client.exists('in3'), await client.flushdb(), await client.quit()]
  }),

  buffers: () => withClient({}, async (client) => {
    const large = Buffer.alloc(3000000, 'ab')
    await client.set('large', large)
    return [large.equals(await client.getBuffer('large')), (await client.getrange('large', 5, 9)), await client.strlen('large')]
  }),

  scan: () => withClient({ keyPrefix: 'pre:' }, async (client) => {
    await client.mset(...numbers(40).flatMap((n) => [`k${n}`, n]))
    const seen = new Set()
    for await (const keys of client.scanStream({ match: 'pre:*', count: 10 })) keys.forEach((key) => seen.add(key))
    return [...seen].sort()
  }),
}

// Every link to the server dies, again and again; the application's own connection must not notice.
async function underCuts() {
  const noticed = []
  return withClient({}, (client) => withClient({}, async (listener) => {
    const killer = new Redis(direct)
    for (const one of [client, listener]) {
      for (const event of ['error', 'close', 'reconnecting', 'end']) one.on(event, () => noticed.push(event))
    }
    const heard = []
    listener.on('message', (_, text) => heard.push(text))
    await listener.subscribe('news')
    await client.set('kept', 'v')
    let wrong = 0
    for (const n of numbers(10)) {
      const reads = numbers(20).map(() => client.get('kept'))
      await killer.client('KILL', 'TYPE', 'normal')
      await killer.client('KILL', 'TYPE', 'pubsub')
      for (const reply of await Promise.all(reads)) wrong += reply !== 'v'
      await client.set('kept', 'v')
      await until(async () => await killer.publish('news', `${n}`) > 0)
    }
    await client.publish('news', 'last')
    await until(() => heard[heard.length - 1] === 'last')
    killer.disconnect()
    const before = [...noticed]
    return { wrong, noticed: before, heard: heard.length }
  }))
}

async function main() {
  if (direct) return { cuts: await underCuts() }
  const results = {}
  for (const [name, scenario] of Object.entries(scenarios)) {
    await withClient({}, (client) => client.flushall())
    results[name] = await scenario()
  }
  return results
}

main().then((results) => console.log(JSON.stringify(results)), (error) => {
  console.error(error)
  process.exit(1)
})
