import diagnostics from "node:diagnostics_channel"
import { readFileSync } from "node:fs"
import { runConformanceTests } from "@durable-streams/server-conformance-tests"
import { Agent, fetch, setGlobalDispatcher } from "undici"
import { afterAll, expect } from "vitest"

// Runs the official suite over HTTP/2. The built-in fetch of Node speaks HTTP/1.1 only. The fetch of undici speaks the version that ALPN has chosen.
const baseUrl = process.env.DURABLE_STREAMS_URL
const ca = process.env.DURABLE_STREAMS_CA
if (!baseUrl || !ca) throw new Error("DURABLE_STREAMS_URL and DURABLE_STREAMS_CA must be set")

const versions = new Set<string>()
diagnostics.subscribe("undici:client:connected", (message) => {
  versions.add((message as { connectParams: { version: string } }).connectParams.version)
})
setGlobalDispatcher(new Agent({ allowH2: true, connect: { ca: readFileSync(ca) } }))
// undici never ends an HTTP/2 request with an empty body, whatever the server. It does end a request without a body.
const speak = (input: string, init?: RequestInit) =>
  fetch(input, (init?.body === "" ? { ...init, body: undefined } : init) as never)
globalThis.fetch = speak as unknown as typeof globalThis.fetch
afterAll(() => expect([...versions]).toEqual(["h2"]))

runConformanceTests({ baseUrl, longPollTimeoutMs: 500, subscriptions: true })
