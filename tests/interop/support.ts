// What the programs of this folder share: the server's address, and waiting for something to come true.

import { DurableStream } from "@durable-streams/client"
import { randomUUID } from "node:crypto"

export const JSON_TYPE = "application/json"

const WAIT = 15_000 // milliseconds; a machine with other work to do needs some of them

/** Returns the address of the server that the tests run against. */
export function address(): string {
  const url = process.env.DURABLE_STREAMS_URL
  if (!url) throw new Error("DURABLE_STREAMS_URL is not set")
  return url
}

/** Returns the URL of a stream that nobody has used. */
export function freshUrl(): string {
  return `${address()}/v1/stream/${randomUUID()}`
}

/** Creates a stream that nobody has used. */
export function fresh(contentType: string): Promise<DurableStream> {
  return DurableStream.create({ url: freshUrl(), contentType })
}

/** Waits until the condition holds; `what` names it in the error that is thrown after 15 seconds. */
export async function until(what: string, condition: () => boolean): Promise<void> {
  const deadline = Date.now() + WAIT
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`waited 15 seconds in vain: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

/**
 * Says a thing every 50 ms until it is enough, and returns how often it did. The server is run with a short `--sse-max-age`, so reads
 * end and begin again meanwhile.
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

/** Returns what `say` said `count` times, if it said the index and a space. */
export function counted(count: number): string {
  return Array.from({ length: count }, (_, index) => `${index} `).join("")
}

/** Returns a schema of the Standard Schema kind that takes every value. */
export function objects<T extends object>() {
  return { "~standard": { version: 1 as const, vendor: "interop", validate: (value: unknown) => ({ value: value as T }) } }
}
