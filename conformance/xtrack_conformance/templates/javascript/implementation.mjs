// PLUG IN your implementation: this decoder, encoder and framer of a few lines know little more than one event.

import { randomUUID } from 'node:crypto'

export class Refused extends Error {} // its message is a class of docs/spec/errors.md

// PLUG IN the events of your implementation. This one checks required members of one event, and no others.
const EVENTS = { metric: { run_id: ['string'], key: ['string'], value: ['bigint', 'number'] } }
const NON_FINITE = { NaN: NaN, Infinity: Infinity, '-Infinity': -Infinity }

// PLUG IN your decoder: return the event, or throw Refused. `reader` is strict or lenient.
export function decode(payload, reader) {
  let text
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(payload)
  } catch {
    throw new Refused('bad_utf8')
  }
  const event = parse(text)
  const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value)
  if (!isObject(event) || ['t', 'v', 'm', 'p'].some((name) => (event[name] ?? null) === null) || !isObject(event.p))
    throw new Refused('bad_envelope')
  for (const [name, kinds] of Object.entries(Object.hasOwn(EVENTS, event.t) ? EVENTS[event.t] : {})) {
    if (!Object.hasOwn(event.p, name)) throw new Refused('missing_field')
    if (name === 'value' && Object.hasOwn(NON_FINITE, event.p[name])) event.p[name] = NON_FINITE[event.p[name]]
    if (!kinds.includes(typeof event.p[name])) throw new Refused('bad_type')
  }
  return event
}

// JSON.parse makes every number a double. Integers are bigints here: digits go through it as marked texts.
const MARK = randomUUID()
const TOKENS = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g
function parse(text) {
  try {
    JSON.parse(text)
  } catch {
    throw new Refused('bad_json')
  }
  const marked = text.replace(TOKENS, (token) => (token[0] === '"' ? token : `"${MARK}${token}"`))
  return JSON.parse(marked, (_, value) => {
    if (typeof value !== 'string' || !value.startsWith(MARK)) return value
    const digits = value.slice(MARK.length)
    return /^-?\d+$/.test(digits) ? BigInt(digits) : Number(digits)
  })
}

// PLUG IN your encoder: return the whole frame, or throw Refused.
export function encode(event) {
  const payload = Buffer.from(written(event))
  const length = Buffer.alloc(4)
  length.writeUInt32BE(payload.length)
  return Buffer.concat([length, payload])
}

function written(value) {
  if (typeof value === 'bigint') return String(value)
  if (typeof value === 'number') {
    if (!Number.isFinite(value)) return `"${value}"` // a number that JSON doesn't have goes as a string
    return Number.isInteger(value) && Math.abs(value) < 1e21 ? `${Object.is(value, -0) ? '-0' : value}.0` : String(value)
  }
  if (Array.isArray(value)) return `[${value.map(written).join()}]`
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  return `{${Object.entries(value).map(([name, item]) => `${JSON.stringify(name)}:${written(item)}`).join()}}`
}

// PLUG IN your frame reader. This one reads connections only.
export class Framer {
  buffer = Buffer.alloc(0)
  offset = 0
  closed = false

  constructor(reader, limit) {
    this.reader = reader
    this.limit = limit
  }

  // Returns what these bytes complete: frames and errors, in order.
  feed(data) {
    this.buffer = Buffer.concat([this.buffer, data])
    const found = []
    while (this.buffer.length >= 4 && !this.closed) {
      const size = this.buffer.readUInt32BE(0)
      if (size === 0 || size > this.limit) { // no way to know where the next frame begins
        this.closed = true
        const rejected = { class: size === 0 ? 'empty_frame' : 'frame_too_large', fatal: true }
        found.push({ offset: this.offset, length: null, rejected })
      } else if (this.buffer.length < 4 + size) {
        break
      } else {
        found.push(this.told(this.buffer.subarray(4, 4 + size)))
        this.buffer = this.buffer.subarray(4 + size)
        this.offset += 4 + size
      }
    }
    return found
  }

  told(payload) {
    const frame = { offset: this.offset, length: 4 + payload.length }
    try {
      decode(payload, this.reader)
      return { ...frame, payload: payload.toString('base64') }
    } catch (error) {
      if (!(error instanceof Refused)) throw error
      return { ...frame, rejected: { class: error.message, fatal: false } }
    }
  }

  // Returns what is left at the end: an error, inside of a frame.
  finish() {
    const rest = this.buffer
    this.buffer = Buffer.alloc(0)
    if (this.closed || rest.length === 0) return []
    return [{ offset: this.offset, length: rest.length, rejected: { class: 'truncated', fatal: false } }]
  }
}
