import { runConformanceTests } from "@durable-streams/server-conformance-tests"

// vitest sets BASE_URL itself, so the address of the server has another name.
const baseUrl = process.env.DURABLE_STREAMS_URL
if (!baseUrl) throw new Error("DURABLE_STREAMS_URL is not set")

runConformanceTests({ baseUrl, longPollTimeoutMs: 500, subscriptions: true })
