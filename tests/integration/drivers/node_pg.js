// Scenarios with node-postgres: `node node_pg.js DSN` prints the results as one line of JSON.
'use strict'
const { Client, Pool } = require('pg')
const { from: copyFrom, to: copyTo } = require('pg-copy-streams')
const { pipeline } = require('stream/promises')
const { Readable, Writable } = require('stream')
const Cursor = require('pg-cursor')

const dsn = process.argv[2]

async function withClient(work) {
  const client = new Client({ connectionString: dsn })
  await client.connect()
  try {
    return await work(client)
  } finally {
    await client.end()
  }
}

async function failure(promise) {
  try {
    await promise
    return 'no error'
  } catch (error) {
    return [error.code, error.severity, error.message]
  }
}

const scenarios = {
  query: () => withClient(async (client) => {
    const answer = await client.query('SELECT $1::int AS n, $2::text AS t, $3::jsonb AS j, NULL AS z',
      [7, "ü'", { k: [1, null] }])
    return [answer.rows, answer.fields.map((field) => [field.name, field.dataTypeID])]
  }),

  prepared: () => withClient(async (client) => {
    const found = []
    for (let n = 0; n < 20; n++) {
      const answer = await client.query({ name: 'triple', text: 'SELECT $1::int * 3 AS n', values: [n] })
      found.push(answer.rows[0].n)
    }
    return found
  }),

  withoutWaiting: () => withClient(async (client) => {
    const waiting = []
    for (let n = 0; n < 50; n++) waiting.push(client.query('SELECT $1::int AS n', [n]))
    waiting.push(failure(client.query('SELECT 1/0')))
    waiting.push(client.query('SELECT 51 AS n'))
    return (await Promise.all(waiting)).map((answer) => answer.rows ? answer.rows[0].n : answer)
  }),

  transaction: () => withClient(async (client) => {
    await client.query('CREATE TEMP TABLE t (n int PRIMARY KEY)')
    await client.query('BEGIN')
    await client.query('INSERT INTO t VALUES (1)')
    await client.query('COMMIT')
    await client.query('BEGIN')
    const broken = await failure(client.query('INSERT INTO t VALUES (1)'))
    const after = await failure(client.query('SELECT 1'))
    await client.query('ROLLBACK')
    return [broken, after, (await client.query('SELECT count(*)::int AS n FROM t')).rows]
  }),

  copy: () => withClient(async (client) => {
    await client.query('CREATE TEMP TABLE t (n int, s text)')
    const lines = Array.from({ length: 3000 }, (_, n) => `${n}\trow ${n}\n`)
    await pipeline(Readable.from(lines), client.query(copyFrom('COPY t FROM STDIN')))
    let bytes = 0
    const count = new Writable({ write(chunk, _, done) { bytes += chunk.length; done() } })
    await pipeline(client.query(copyTo('COPY t TO STDOUT')), count)
    const bad = await failure(pipeline(Readable.from(['bad\n']), client.query(copyFrom('COPY t FROM STDIN'))))
    return [bytes, bad, (await client.query('SELECT count(*)::int AS n FROM t')).rows]
  }),

  notify: () => withClient((listener) => withClient(async (speaker) => {
    const heard = new Promise((resolve) => listener.on('notification', resolve))
    await listener.query('LISTEN drivers_node')
    await speaker.query("SELECT pg_notify('drivers_node', 'hello')")
    const note = await heard
    return [note.channel, note.payload, note.processId === speaker.processID]
  })),

  cancel: () => withClient((victim) => withClient(async (killer) => {
    const sleeping = failure(victim.query('SELECT pg_sleep(30)'))
    // As pg does it: a second connection that sends a CancelRequest with the victim's key.
    const canceller = new Client({ connectionString: dsn })
    await killer.query('SELECT pg_sleep(0.2)')
    canceller.connection.once('connect', () => canceller.connection.cancel(victim.processID, victim.secretKey))
    canceller.connection.connect(canceller.port, canceller.host)
    const outcome = await sleeping
    return [outcome, (await victim.query("SELECT 'alive' AS s")).rows]
  })),

  cursor: () => withClient(async (client) => {
    const cursor = client.query(new Cursor('SELECT generate_series(1, 250) AS n'))
    const sizes = []
    for (let rows = await cursor.read(100); rows.length; rows = await cursor.read(100)) sizes.push(rows.length)
    await cursor.close()
    return [sizes, (await client.query('SELECT 1 AS n')).rows]
  }),

  errors: () => withClient(async (client) => [
    await failure(client.query('SELEC')),
    await failure(client.query('SELECT $1::int', ['x'])),
    (await client.query('SELECT 1 AS n')).rows,
  ]),

  notices: () => withClient(async (client) => {
    const heard = []
    client.on('notice', (notice) => heard.push([notice.severity, notice.message]))
    await client.query("DO $$ BEGIN RAISE NOTICE 'said'; END $$")
    return heard
  }),

  large: () => withClient(async (client) => {
    const text = 'x'.repeat(1500000)
    const answer = await client.query('SELECT length($1) AS n, $1 AS t', [text])
    return [answer.rows[0].n, answer.rows[0].t === text]
  }),

  pool: async () => {
    const pool = new Pool({ connectionString: dsn, max: 4 })
    const answers = await Promise.all(Array.from({ length: 60 }, (_, n) => pool.query('SELECT $1::int AS n', [n])))
    await pool.end()
    return answers.map((answer) => answer.rows[0].n)
  },

  refused: async () => {
    const address = new URL(dsn)
    address.pathname = '/nowhere'
    const missing = new Client({ connectionString: address.href })
    return [await failure(new Client({ connectionString: dsn.replace('Pa55', 'Pa56') }).connect()),
      await failure(missing.connect())]
  },
}

async function main() {
  const results = {}
  for (const [name, scenario] of Object.entries(scenarios)) results[name] = await scenario()
  console.log(JSON.stringify(results))
}

main().catch((error) => {
  console.error(error)
  process.exit(1)
})
