// The official packages continue after the server under test is stopped or killed and started again with its data directory.

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

/** A user of a package who has started before the restart. */
interface Witness {
  /** Continues after the restart, and checks that nothing was lost or repeated. */
  continues(): Promise<void>
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
    async continues() {
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

/** A peer of a document that nobody has written to since its compaction. */
async function compacted(url: string, live: LiveMode): Promise<Witness & { room: Room }> {
  const room = await Room.open(url, 1000)
  open.push(room)
  const writer = await room.join(live)
  await writer.write("x".repeat(1500))
  const snapshot = await room.compacted(null)
  return {
    room,
    async continues() {
      const joiner = await room.join(live)
      expect(joiner.content).toBe(writer.content)
      await joiner.write("y".repeat(1500))
      await writer.sees(joiner.content)
      await room.compacted(snapshot)
      expect((await room.join(live)).content).toBe(joiner.content)
    },
  }
}

/** A database that follows a stream. */
async function database(url: string, live: LiveMode): Promise<Witness> {
  const handle = await DurableStream.create({ url: `${url}/v1/stream/${randomUUID()}`, contentType: JSON_TYPE })
  const seen: string[] = []
  const db = createStreamDB({ stream: handle, live, state: schema, onEvent: (event) => void seen.push(event.key) })
  open.push(db)
  await handle.append(JSON.stringify(schema.users.insert({ value: { id: "before" } })))
  await db.preload()
  return {
    async continues() {
      await handle.append(JSON.stringify(schema.users.insert({ value: { id: "after" } })))
      await until("a row that came after the restart", () => db.collections.users.has("after"))
      expect(seen).toEqual(["before", "after"])
    },
  }
}

/** An answer that is half written, and whose next token comes while the server is down. */
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
    async continues() {
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

  test.each(["sse", "long-poll"])("peers that read by %s continue", (live) => witnesses[`peers ${live}`].continues())

  test.each(["sse", "long-poll"])("a compacted document that is read by %s continues", (live) =>
    witnesses[`compacted ${live}`].continues(),
  )

  test.each(["sse", "long-poll"])("a database that follows by %s continues", (live) =>
    witnesses[`database ${live}`].continues(),
  )

  test("a half-written answer is completed", () => witnesses.answer.continues())
})

// Two limits of the official packages restrict these tests. A client whose event stream is cut in the middle stops with an error. And a Yjs
// server whose event stream is cut neither ends its own event streams nor continues them, so the test restarts it too.
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

  test.each(["sse", "long-poll"])("peers that read by %s continue", (live) => witnesses[`peers ${live}`].continues())

  test.each(["sse", "long-poll"])("a compacted document that is read by %s continues", (live) =>
    witnesses[`compacted ${live}`].continues(),
  )

  test("a database that follows by long-poll continues", () => witnesses.database.continues())
})
