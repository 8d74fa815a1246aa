// A testee: answers the conformance suite of XTrack for an implementation.
//
//     python -m xtrack_conformance smoke -- node testee.mjs
//
// Beside it lies implementation.mjs. Put your own in its place; the rest can stay.
// docs/reference/testee-protocol.md tells what each line means.

import { createInterface } from 'node:readline'

import { Framer, Refused, decode, encode } from './implementation.mjs'

const HELLO = {
  impl: { name: 'my-xtrack', version: '0.1', language: 'JavaScript' }, // PLUG IN who you are
  protocol: [1],
  roles: ['encoder', 'decoder', 'framer'],
  capabilities: { strict: true, lenient: true }, // PLUG IN: recording, limits, stop_at_damage, lone_surrogates
  max_in_flight: 16,
}
const sessions = new Map()

function answer(request) {
  const bytes = (text) => Buffer.from(text, 'base64')
  switch (request.op) {
    case 'hello':
      return HELLO
    case 'decode':
      return { event: tagged(decode(bytes(request.payload), request.reader)) }
    case 'encode':
      return { frame: encode(untagged(request.event)).toString('base64') }
    case 'frame.feed':
    case 'frame.finish': {
      const framer = sessions.get(request.session) ?? new Framer(request.reader, request.limit ?? 1_048_576)
      sessions.set(request.session, framer)
      const isEnd = request.op === 'frame.finish'
      const frames = isEnd ? framer.finish() : framer.feed(bytes(request.bytes))
      if (isEnd) sessions.delete(request.session)
      return { frames, state: framer.closed ? 'closed' : framer.buffer.length ? 'need-more' : 'between' }
    }
  }
  return { unsupported: { capability: request.op } }
}

// A value with its type, so that 1, 1.0 and true stay apart on their way.
function tagged(value) {
  if (value === null) return { t: 'null' }
  if (typeof value === 'boolean') return { t: 'bool', v: value }
  if (typeof value === 'bigint') return { t: 'int', v: String(value) }
  if (typeof value === 'string') return { t: 'str', v: value }
  if (typeof value === 'number') {
    const bits = Buffer.alloc(8)
    bits.writeDoubleBE(value)
    return { t: 'float', v: bits.toString('hex') }
  }
  if (Array.isArray(value)) return { t: 'list', v: value.map(tagged) }
  return { t: 'obj', v: Object.entries(value).map(([name, item]) => [name, tagged(item)]) }
}

function untagged({ t, v }) {
  if (t === 'null') return null
  if (t === 'int') return BigInt(v)
  if (t === 'float') return Buffer.from(v, 'hex').readDoubleBE(0)
  if (t === 'list') return v.map(untagged)
  if (t === 'obj') return Object.fromEntries(v.map(([name, item]) => [name, untagged(item)]))
  return v
}

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line)
  let result
  try {
    result = answer(request)
  } catch (error) {
    // What isn't refused on purpose is told, and counted as a failure of this one request.
    const isRefused = error instanceof Refused
    result = isRefused ? { rejected: { class: error.message, fatal: false } } : { internal_error: String(error) }
  }
  process.stdout.write(`${JSON.stringify({ id: request.id, ...result })}\n`)
}
