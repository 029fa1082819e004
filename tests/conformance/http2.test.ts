import diagnostics from "node:diagnostics_channel"
import { readFileSync } from "node:fs"
import { runConformanceTests } from "@durable-streams/server-conformance-tests"
import { Agent, fetch, setGlobalDispatcher } from "undici"
import { afterAll, expect } from "vitest"

// The official suite over HTTP/2: Node's own fetch speaks HTTP/1.1 only, and undici's speaks what ALPN has chosen.
const baseUrl = process.env.DURABLE_STREAMS_URL
const ca = process.env.DURABLE_STREAMS_CA
if (!baseUrl || !ca) throw new Error("DURABLE_STREAMS_URL and DURABLE_STREAMS_CA must be set")

const versions = new Set<string>()
diagnostics.subscribe("undici:client:connected", (message) => {
  versions.add((message as { connectParams: { version: string } }).connectParams.version)
})
setGlobalDispatcher(new Agent({ allowH2: true, connect: { ca: readFileSync(ca) } }))
// With HTTP/2 and an empty body undici never ends its request, to whatever server; without a body it does.
const speak = (input: string, init?: RequestInit) =>
  fetch(input, (init?.body === "" ? { ...init, body: undefined } : init) as never)
globalThis.fetch = speak as unknown as typeof globalThis.fetch
afterAll(() => expect([...versions]).toEqual(["h2"]))

runConformanceTests({ baseUrl, longPollTimeoutMs: 500, subscriptions: true })
