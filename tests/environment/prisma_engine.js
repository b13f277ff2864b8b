#!/usr/bin/env node
// Prisma's query engine as prisma-client-py starts it, on Prisma's own WebAssembly build of that engine: for machines
// that cannot download the native program. It speaks the native one's HTTP (`-p PORT`, GET /status, POST /,
// POST /transaction/...), takes the GraphQL that prisma-client-py writes, and gives the engine the same query as JSON.
//
// PRISMA_DML_PATH: the schema. DATABASE_URL: the database. HEARTH_TEST_PRISMA: the directory with the node_modules that
// tests/environment/postgres has put there.
'use strict'

const fs = require('node:fs')
const http = require('node:http')
const { createRequire } = require('node:module')
const path = require('node:path')

const packages = process.env.HEARTH_TEST_PRISMA
const need = createRequire(path.join(packages, 'node_modules', 'x.js'))

if (process.argv.includes('--version')) {
  console.log('query-engine (WebAssembly)')
  process.exit(0)
}

const { parse } = need('graphql')
const pg = need('pg')
const postgresArray = need('postgres-array')
const { PrismaPg } = need('@prisma/adapter-pg')
const { bindAdapter } = need('@prisma/driver-adapter-utils')

const schema = fs.readFileSync(process.env.PRISMA_DML_PATH, 'utf8')
const models = modelsOf(schema)

// --- the query: GraphQL in, JSON in and out

const ACTION = /^(findUnique|findFirst|findMany|createOne|createMany|updateOne|updateMany|upsertOne|deleteOne|deleteMany|aggregate|groupBy)(.*?)(OrThrow)?$/

// Of each model, the types of its fields: JSON has to be marked as such, or the engine takes it for a mere string.
function modelsOf(schema) {
  const fieldsOf = (body) => Object.fromEntries([...body.matchAll(/^\s+(\w+)\s+(\w+)/gm)].map(([, name, type]) => [name, type]))
  return Object.fromEntries([...schema.matchAll(/^model (\w+) {\n(.*?)^}/gms)].map(([, name, body]) => [name, fieldsOf(body)]))
}
const JSON_FILTERS = new Set(['equals', 'not', 'array_contains', 'array_starts_with', 'array_ends_with', 'set'])

function value(node, type) { // type: of the model that the fields in it are of, or `Json`
  switch (node.kind) {
    case 'IntValue': {
      const number = Number(node.value)
      return Number.isSafeInteger(number) ? number : { $type: 'BigInt', value: node.value }
    }
    case 'FloatValue': return Number(node.value)
    case 'NullValue': return null
    case 'StringValue': return type === 'Json' ? { $type: 'Json', value: node.value } : node.value
    case 'ListValue': return node.values.map((each) => value(each, type))
    case 'ObjectValue': return Object.fromEntries(node.fields.map(({ name, value: found }) => [name.value, value(found, within(type, name.value))]))
    default: return node.value // booleans and enums
  }
}

function within(type, name) {
  if (type === 'Json') return JSON_FILTERS.has(name) ? type : undefined
  const own = models[type]?.[name]
  return own === 'Json' || own in models ? own : type // `data`, `where`, `create`, AND: of the same model
}

function fields(node, type) {
  const given = Object.fromEntries((node.arguments ?? []).map((each) => [each.name.value, value(each.value, type)]))
  const chosen = (node.selectionSet?.selections ?? []).map((each) => [
    each.name.value,
    each.selectionSet || each.arguments?.length ? fields(each, within(type, each.name.value)) : true,
  ])
  return { arguments: given, selection: Object.fromEntries(chosen) }
}

function asJson(text) {
  const field = parse(text, { noLocation: true }).definitions[0].selectionSet.selections[0]
  const name = field.name.value
  if (name === 'queryRaw' || name === 'executeRaw') return { action: name, query: fields(field) }
  const [, action, modelName, orThrow] = ACTION.exec(name)
  return { modelName, action: action + (orThrow ?? ''), query: fields(field, modelName) }
}

function plain(found) { // what JSON answers carry a type with, GraphQL's have bare
  if (Array.isArray(found)) return found.map(plain)
  if (found === null || typeof found !== 'object') return found
  if ('$type' in found) return found.$type === 'BigInt' ? Number(found.value) : found.value
  return Object.fromEntries(Object.entries(found).map(([name, each]) => [name, plain(each)]))
}

function asGraphql(answer) {
  if (answer.errors) return answer
  if (answer.batchResult) return { batchResult: answer.batchResult.map(asGraphql) }
  const [[name, result]] = Object.entries(answer.data)
  return { data: { result: name === 'queryRaw' ? rows(result) : plain(result) } }
}

function rows(result) {
  const json = (index, cell) => (result.types[index] === 'json' && typeof cell === 'string' ? JSON.parse(cell) : cell)
  return { ...result, rows: result.rows.map((row) => row.map((cell, index) => json(index, cell))) }
}

// --- the engine

// Types that only Postgres's own catalogue has. The adapter knows none of them; they are sent as text, or as arrays of it.
const TEXT = 25
const TEXTS = 1009
const NAMES = 1003
const CATALOGUE_TYPES = new Set([18, 19, 194, 705, 1186, 2205, 2206, 2278])
const queryable = Object.getPrototypeOf(PrismaPg.prototype)
const performIO = queryable.performIO
queryable.performIO = async function (query) {
  const result = await performIO.call(this, query)
  const columns = result.ok ? (result.value.fields ?? []) : []
  columns.forEach((column, index) => {
    if (CATALOGUE_TYPES.has(column.dataTypeID)) column.dataTypeID = TEXT
    if (column.dataTypeID !== NAMES) return
    column.dataTypeID = TEXTS
    for (const row of result.value.rows) if (typeof row[index] === 'string') row[index] = postgresArray.parse(row[index])
  })
  return result
}

async function start() {
  const runtime = path.join(packages, 'node_modules/@prisma/client/runtime/query_engine_bg.postgresql')
  const glue = require(`${runtime}.js`)
  const { instance } = await WebAssembly.instantiate(fs.readFileSync(`${runtime}.wasm`), { './query_engine_bg.js': glue })
  glue.__wbg_set_wasm(instance.exports)
  const url = new URL(process.env.DATABASE_URL)
  for (const ours of ['connection_limit', 'pool_timeout', 'schema']) url.searchParams.delete(ours) // Prisma's, not Postgres's
  const adapter = bindAdapter(new PrismaPg(new pg.Pool({ connectionString: url.href, max: 10 })))
  const options = {
    datamodel: schema,
    logLevel: 'error', logQueries: false, ignoreEnvVarErrors: true, datasourceOverrides: {}, env: process.env,
    configDir: path.dirname(process.env.PRISMA_DML_PATH), engineProtocol: 'json',
  }
  const engine = new glue.QueryEngine(options, (line) => console.error(line), adapter)
  await engine.connect('{}')
  return engine
}

async function answer(engine, method, address, body, transaction) {
  if (method === 'GET') return { status: 'ok' }
  const [, kind, id, end] = address.split('/')
  if (kind === 'transaction') {
    if (id === 'start') return JSON.parse(await engine.startTransaction(body, '{}'))
    return JSON.parse(await (end === 'commit' ? engine.commitTransaction(id, '{}') : engine.rollbackTransaction(id, '{}')))
  }
  const asked = JSON.parse(body)
  const query = asked.batch
    ? { batch: asked.batch.map((each) => asJson(each.query)), transaction: asked.transaction ? {} : undefined }
    : asJson(asked.query)
  return asGraphql(JSON.parse(await engine.query(JSON.stringify(query), '{}', transaction)))
}

async function main() {
  const port = Number(process.argv[process.argv.indexOf('-p') + 1])
  const engine = await start()
  const server = http.createServer(async (request, response) => {
    let status = 200
    let said
    try {
      const parts = []
      for await (const part of request) parts.push(part)
      said = await answer(engine, request.method, request.url, Buffer.concat(parts).toString(), request.headers['x-transaction-id'])
    } catch (error) {
      status = 500
      said = { errors: [{ error: String(error), user_facing_error: { message: String(error), is_panic: false } }] }
    }
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(said))
  })
  server.listen(port, '127.0.0.1')
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(0))
}

main()
