// Runs the official suite against an application that is mounted below a prefix.

import { runConformanceTests } from "@durable-streams/server-conformance-tests"

const baseUrl = process.env.DURABLE_STREAMS_URL
if (!baseUrl) throw new Error("DURABLE_STREAMS_URL is not set")

// The suite names the source of a fork by a path without the prefix. Clients of a mounted application name it by the path of its URL, so
// the prefix is added to the header here.
const prefix = new URL(baseUrl).pathname
const plain = globalThis.fetch
globalThis.fetch = (input, init) => {
  const headers = new Headers(init?.headers)
  const source = headers.get("Stream-Forked-From")
  if (source?.startsWith("/") && !source.startsWith(`${prefix}/`)) headers.set("Stream-Forked-From", prefix + source)
  return plain(input, init && { ...init, headers })
}

runConformanceTests({ baseUrl, longPollTimeoutMs: 500 })
