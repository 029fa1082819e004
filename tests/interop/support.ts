// Functions that the tests of this folder share: the address of the server, new streams, and waiting for a condition.

import { DurableStream } from "@durable-streams/client"
import { randomUUID } from "node:crypto"

export const JSON_TYPE = "application/json"

const WAIT = 15_000 // milliseconds; a busy machine may need several seconds

/** Returns the address of the server that the tests run against. */
export function address(): string {
  const url = process.env.DURABLE_STREAMS_URL
  if (!url) throw new Error("DURABLE_STREAMS_URL is not set")
  return url
}

/** Returns the URL of a stream that does not exist yet. */
export function freshUrl(): string {
  return `${address()}/v1/stream/${randomUUID()}`
}

/** Creates a new stream. */
export function fresh(contentType: string): Promise<DurableStream> {
  return DurableStream.create({ url: freshUrl(), contentType })
}

/** Waits until a condition is true. Throws an error that names `what` after 15 seconds. It polls, because the packages announce no such events. */
export async function until(what: string, condition: () => boolean): Promise<void> {
  const deadline = Date.now() + WAIT
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`waited 15 seconds in vain: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

/**
 * Calls `say` every 50 ms until `isEnough` returns true. Returns the number of calls. The server runs with a short `--sse-max-age`, so live
 * reads end and begin again meanwhile.
 */
export async function slowly(say: (index: number) => unknown, isEnough: () => boolean): Promise<number> {
  const deadline = Date.now() + WAIT
  let count = 0
  while (!isEnough()) {
    if (Date.now() > deadline) throw new Error("no read has ended for 15 seconds")
    await say(count++)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  return count
}

/** Returns the text of `count` calls of `say` that each said their index and a space. */
export function counted(count: number): string {
  return Array.from({ length: count }, (_, index) => `${index} `).join("")
}

/** Returns a Standard Schema that accepts every value. */
export function objects<T extends object>() {
  return { "~standard": { version: 1 as const, vendor: "interop", validate: (value: unknown) => ({ value: value as T }) } }
}
