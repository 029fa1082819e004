// Official layers go on when the server under test is stopped or killed, and started again over its files.

import { createStateSchema, createStreamDB } from "@durable-streams/state/db"
import { toDurableStreamResponse } from "@durable-streams/aisdk-transport"
import { DurableStream, stream as read } from "@durable-streams/client"
import { randomUUID } from "node:crypto"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest"
import { Answer } from "./app"
import { Server } from "./process"
import { JSON_TYPE, objects, until } from "./support"
import { LiveMode, Peer, Room } from "./yjs"

vi.setConfig({ testTimeout: 30_000, hookTimeout: 60_000 })

const schema = createStateSchema({ users: { schema: objects<{ id: string }>(), type: "user", primaryKey: "id" } })

let directory: string
let server: Server
const open: { close(): void | Promise<void> }[] = []

/** Somebody who has begun before the restart. */
interface Witness {
  /** Goes on after the restart, and checks that nothing was lost or doubled. */
  goesOn(): Promise<void>
}

/** Two peers of one document. */
async function peers(url: string, live: LiveMode): Promise<Witness & { room: Room }> {
  const room = await Room.open(url)
  open.push(room)
  const writer = await room.join(live)
  const reader = await room.join(live)
  await writer.write("before ")
  await reader.sees("before ")
  return {
    room,
    async goesOn() {
      await writer.write("after")
      await reader.sees("before after")
      const joiner = await room.join(live)
      await joiner.write(".")
      const all: Peer[] = [writer, reader, joiner]
      await Promise.all(all.map((peer) => peer.sees("before after.")))
      expect(all.flatMap((peer) => peer.errors)).toEqual([])
    },
  }
}

/** A peer of a document that is compacted, and nothing was written since. */
async function compacted(url: string, live: LiveMode): Promise<Witness & { room: Room }> {
  const room = await Room.open(url, 1000)
  open.push(room)
  const writer = await room.join(live)
  await writer.write("x".repeat(1500))
  const snapshot = await room.compacted(null)
  return {
    room,
    async goesOn() {
      const joiner = await room.join(live)
      expect(joiner.content).toBe(writer.content)
      await joiner.write("y".repeat(1500))
      await writer.sees(joiner.content)
      await room.compacted(snapshot)
      expect((await room.join(live)).content).toBe(joiner.content)
    },
  }
}

/** A database that follows its stream. */
async function database(url: string, live: LiveMode): Promise<Witness> {
  const handle = await DurableStream.create({ url: `${url}/v1/stream/${randomUUID()}`, contentType: JSON_TYPE })
  const seen: string[] = []
  const db = createStreamDB({ stream: handle, live, state: schema, onEvent: (event) => void seen.push(event.key) })
  open.push(db)
  await handle.append(JSON.stringify(schema.users.insert({ value: { id: "before" } })))
  await db.preload()
  return {
    async goesOn() {
      await handle.append(JSON.stringify(schema.users.insert({ value: { id: "after" } })))
      await until("a row that came after the restart", () => db.collections.users.has("after"))
      expect(seen).toEqual(["before", "after"])
    },
  }
}

/** An answer of which half is written, and whose next token comes while the server is away. */
async function answer(url: string): Promise<Witness & { speak(): void }> {
  const spoken = new Answer()
  const writeUrl = `${url}/v1/stream/${randomUUID()}`
  const writes: Promise<unknown>[] = []
  await toDurableStreamResponse({ source: spoken, stream: { writeUrl }, waitUntil: (write) => void writes.push(write) })
  spoken.say("one", "two")
  const response = await read<string>({ url: writeUrl, live: "sse", json: true })
  const seen: string[] = []
  response.subscribeJson(async (batch) => void seen.push(...batch.items))
  await until("two tokens", () => seen.length === 2)
  return {
    speak: () => spoken.say("three"),
    async goesOn() {
      spoken.say("four")
      spoken.end()
      await Promise.all(writes)
      await response.closed
      expect(seen).toEqual(["one", "two", "three", "four"])
    },
  }
}

async function begin(): Promise<void> {
  directory = await mkdtemp(join(tmpdir(), "durable-streams-interop-"))
  server = await Server.start(directory)
}

async function end(): Promise<void> {
  await Promise.all(open.splice(0).map((each) => each.close()))
  await server.end("SIGKILL")
  await rm(directory, { recursive: true })
}

describe("after a stop", () => {
  const witnesses: Record<string, Witness> = {}

  beforeAll(async () => {
    await begin()
    for (const live of ["sse", "long-poll"] as const) {
      witnesses[`peers ${live}`] = await peers(server.url, live)
      witnesses[`compacted ${live}`] = await compacted(server.url, live)
      witnesses[`database ${live}`] = await database(server.url, live)
    }
    const spoken = await answer(server.url)
    witnesses.answer = spoken
    await server.end("SIGTERM")
    spoken.speak()
    await server.start()
  })

  afterAll(end)

  test.each(["sse", "long-poll"])("peers that read by %s go on", (live) => witnesses[`peers ${live}`].goesOn())

  test.each(["sse", "long-poll"])("a compacted document that is read by %s goes on", (live) =>
    witnesses[`compacted ${live}`].goesOn(),
  )

  test.each(["sse", "long-poll"])("a database that follows by %s goes on", (live) =>
    witnesses[`database ${live}`].goesOn(),
  )

  test("an answer that was half written is written to its end", () => witnesses.answer.goesOn())
})

// Two things of the official packages bound what may be asked here. A client whose event stream is cut in the middle gives up with an error.
// And a Yjs server whose event stream is cut neither ends its own nor goes on with it, so it must be replaced, too.
describe("after a kill", () => {
  const witnesses: Record<string, Witness> = {}

  beforeAll(async () => {
    await begin()
    const held: Room[] = []
    for (const live of ["sse", "long-poll"] as const) {
      for (const [name, make] of [["peers", peers], ["compacted", compacted]] as const) {
        const witness = await make(server.url, live)
        witnesses[`${name} ${live}`] = witness
        if (live === "sse") held.push(witness.room)
      }
    }
    witnesses.database = await database(server.url, "long-poll")
    await server.end("SIGKILL")
    await server.start()
    await Promise.all(held.map((room) => room.restart()))
  })

  afterAll(end)

  test.each(["sse", "long-poll"])("peers that read by %s go on", (live) => witnesses[`peers ${live}`].goesOn())

  test.each(["sse", "long-poll"])("a compacted document that is read by %s goes on", (live) =>
    witnesses[`compacted ${live}`].goesOn(),
  )

  test("a database that follows by long-poll goes on", () => witnesses.database.goesOn())
})
