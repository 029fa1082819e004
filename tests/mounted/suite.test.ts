// The official suite against streams that live below a prefix of somebody else's application.

import { runConformanceTests } from "@durable-streams/server-conformance-tests"

const baseUrl = process.env.DURABLE_STREAMS_URL
if (!baseUrl) throw new Error("DURABLE_STREAMS_URL is not set")

// The suite knows the paths of its streams from the root of the server. A client of a mounted application names a fork's source by
// the path of its URL, so the header gets the prefix here that the URL has.
const prefix = new URL(baseUrl).pathname
const plain = globalThis.fetch
globalThis.fetch = (input, init) => {
  const headers = new Headers(init?.headers)
  const source = headers.get("Stream-Forked-From")
  if (source?.startsWith("/") && !source.startsWith(`${prefix}/`)) headers.set("Stream-Forked-From", prefix + source)
  return plain(input, init && { ...init, headers })
}

runConformanceTests({ baseUrl, longPollTimeoutMs: 500 })
