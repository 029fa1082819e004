// The official Yjs package. Its server keeps documents in the server under test, and its providers edit them.

import { Awareness } from "y-protocols/awareness"
import { afterEach, describe, expect, test, vi } from "vitest"
import { address, counted, slowly, until } from "./support"
import { LiveMode, Peer, Room } from "./yjs"

vi.setConfig({ testTimeout: 30_000 })

const MB = 1_000_000
const rooms: Room[] = []

async function open(compactionThreshold?: number): Promise<Room> {
  const room = await Room.open(address(), compactionThreshold)
  rooms.push(room)
  return room
}

afterEach(async () => {
  await Promise.all(rooms.splice(0).map((room) => room.close()))
})

/** Returns a text of pseudorandom letters, so that no two parts are alike. */
function paste(length: number): string {
  let state = 42
  const letters = new Uint8Array(length)
  for (let index = 0; index < length; index++) {
    state = (state * 1664525 + 1013904223) >>> 0
    letters[index] = 97 + (state >>> 16) % 26
  }
  return new TextDecoder().decode(letters)
}

describe.each<LiveMode>(["sse", "long-poll"])("peers that read by %s", (live) => {
  test("see what each of them writes", async () => {
    const room = await open()
    const peers = await Promise.all([room.join(live), room.join(live), room.join(live)])
    for (const [index, peer] of peers.entries()) await peer.write(`<${index}>`)
    await Promise.all(peers.map((peer) => peer.write("!")))
    const length = "<0><1><2>!!!".length
    await Promise.all(peers.map((peer) => until("all edits", () => peer.text.length === length)))
    const contents = new Set(peers.map((peer) => peer.content))
    expect(contents.size).toBe(1)
    for (const part of ["<0>", "<1>", "<2>"]) expect([...contents][0]).toContain(part)
    expect(peers.flatMap((peer) => peer.errors)).toEqual([])
  })

  test("see all edits while live reads end and begin again", async () => {
    const room = await open()
    const writer = await room.join(live)
    const reader = await room.join(live)
    const fetched = vi.spyOn(globalThis, "fetch")
    const begun = (): number => fetched.mock.calls.filter(([url]) => String(url).startsWith(room.updatesUrl + "?")).length
    const count = await slowly((index) => writer.write(`${index} `), () => begun() > 2)
    fetched.mockRestore()
    await reader.sees(counted(count))
    expect([...writer.errors, ...reader.errors]).toEqual([])
  })

  test.each([20_000, 100_000, 3 * MB])("get a paste of %i letters completely", async (length) => {
    const room = await open()
    const writer = await room.join(live)
    const readers = await Promise.all([room.join(live), room.join(live)])
    const pasted = paste(length)
    await writer.write(pasted)
    await Promise.all(readers.map((reader) => reader.sees(pasted)))
    await readers[0].write(".")
    await Promise.all([writer, ...readers].map((peer) => peer.sees(pasted + ".")))
    expect([writer, ...readers].flatMap((peer) => peer.errors)).toEqual([])
  })

  test("join a log that is longer than a page", async () => {
    const room = await open()
    const writer = await room.join(live)
    const part = paste(60_000)
    for (let count = 0; count < 100; count++) await writer.write(part)
    const joiner = await room.join(live)
    expect(joiner.text.length).toBe(100 * part.length)
    expect(joiner.content).toBe(writer.content)
    await writer.write(".")
    await joiner.sees(writer.content)
    expect(joiner.errors).toEqual([])
  })

  test("join a log of pastes, each longer than a page", async () => {
    const room = await open()
    const writer = await room.join(live)
    for (let count = 0; count < 2; count++) await writer.write(paste(5 * MB))
    const joiner = await room.join(live)
    await joiner.sees(writer.content)
    expect(joiner.errors).toEqual([])
  })

  test("join a log of two thousand small edits", async () => {
    const room = await open()
    const writer = await room.join(live)
    for (let count = 0; count < 2000; count++) writer.text.insert(0, String(count % 10))
    await writer.provider.flush()
    const joiner = await room.join(live)
    expect(joiner.content).toBe(writer.content)
    expect(joiner.text.length).toBe(2000)
  })

  test("join right after a compaction, and continue", async () => {
    const room = await open(1000)
    const writer = await room.join(live)
    await writer.write(paste(1500))
    await room.compacted(null)
    const joiner = await room.join(live)
    expect(joiner.content).toBe(writer.content)
    for (const edit of ["a", "b", "c"]) {
      await writer.write(edit)
      await joiner.sees(writer.content)
    }
    await joiner.write("d")
    await writer.sees(joiner.content)
    expect([...writer.errors, ...joiner.errors]).toEqual([])
  })

  test("join after edits that followed a compaction", async () => {
    const room = await open(1000)
    const writer = await room.join(live)
    await writer.write(paste(1500))
    await room.compacted(null)
    await writer.write("first ")
    await writer.write("second ")
    const joiner = await room.join(live)
    expect(joiner.content).toBe(writer.content)
    await writer.write("third")
    await joiner.sees(writer.content)
    expect(joiner.errors).toEqual([])
  })

  test("stay together over several compactions", async () => {
    const room = await open(1000)
    const writer = await room.join(live)
    const reader = await room.join(live)
    let snapshot: string | null = null
    for (let round = 0; round < 3; round++) {
      await writer.write(paste(1500))
      snapshot = await room.compacted(snapshot)
      const joiner = await room.join(live)
      expect(joiner.content).toBe(writer.content)
      expect(joiner.errors).toEqual([])
    }
    await reader.sees(writer.content)
    expect([...writer.errors, ...reader.errors]).toEqual([])
  })

  test("join a document whose snapshot is longer than a page", async () => {
    const room = await open(5 * MB)
    const writer = await room.join(live)
    const part = paste(600_000)
    for (let count = 0; count < 9; count++) await writer.write(part)
    await room.compacted(null)
    await writer.write(".")
    const joiner = await room.join(live)
    expect(joiner.text.length).toBe(writer.text.length)
    expect(joiner.content).toBe(writer.content)
    expect(joiner.errors).toEqual([])
  })

  test("continue when the Yjs server is replaced", async () => {
    const room = await open()
    const reader = await room.join(live)
    const writer = await room.join(live)
    await writer.write("before ")
    await reader.sees("before ")
    await room.restart()
    const newcomer = await room.join(live)
    expect(newcomer.content).toBe("before ")
    await newcomer.write("after")
    await Promise.all([reader, writer].map((peer) => peer.sees("before after")))
  })

  test("continue when the Yjs server is replaced after a compaction", async () => {
    const room = await open(1000)
    const reader = await room.join(live)
    const writer = await room.join(live)
    await writer.write(paste(1500))
    const snapshot = await room.compacted(null)
    await room.restart()
    const newcomer = await room.join(live)
    expect(room.snapshotOffset).toBe(snapshot)
    expect(newcomer.content).toBe(paste(1500))
    await newcomer.write(paste(1200))
    await room.compacted(snapshot)
    const latest = await room.join(live)
    expect(latest.content).toBe(paste(1500) + paste(1200))
    await Promise.all([reader, writer].map((peer) => peer.sees(latest.content)))
  })
})

describe("positions", () => {
  /** Returns `offset` with one added to its last field, as the official Yjs server does after a compaction. */
  function oneMore(offset: string): string {
    const [first, last] = offset.split("_")
    return `${first}_${String(Number(last) + 1).padStart(last.length, "0")}`
  }

  test("one byte past the compacted updates means the whole next update", async () => {
    const room = await open(1000)
    const writer = await room.join()
    await writer.write(paste(1500))
    const snapshot = await room.compacted(null)
    await writer.write("next")
    const whole = await fetch(`${room.updatesUrl}?offset=${snapshot}`)
    const moved = await fetch(`${room.updatesUrl}?offset=${oneMore(snapshot)}`)
    expect(moved.status).toBe(200)
    expect(await moved.bytes()).toEqual(await whole.bytes())
    expect(moved.headers.get("stream-next-offset")).toBe(whole.headers.get("stream-next-offset"))
  })

  test("one byte past the tail means the tail", async () => {
    const room = await open(1000)
    const writer = await room.join()
    await writer.write(paste(1500))
    const snapshot = await room.compacted(null)
    const response = await fetch(`${room.updatesUrl}?offset=${oneMore(snapshot)}`)
    expect(response.status).toBe(200)
    expect((await response.bytes()).length).toBe(0)
    expect(response.headers.get("stream-next-offset")).toBe(snapshot)
    expect(response.headers.get("stream-up-to-date")).toBe("true")
  })
})

describe("awareness", () => {
  function statesOf(peer: Peer): Map<number, Record<string, unknown>> {
    return (peer.awareness as Awareness).getStates() as Map<number, Record<string, unknown>>
  }

  test("peers see the cursors of others, and that they have left", async () => {
    const room = await open()
    const first = await room.join("sse", true)
    const second = await room.join("sse", true)
    first.awareness!.setLocalState({ name: "Ada", cursor: 3 })
    await until("Ada's cursor", () => statesOf(second).get(first.doc.clientID)?.cursor === 3)
    second.awareness!.setLocalState({ name: "Bob", note: paste(20_000) })
    await until("Bob", () => statesOf(first).get(second.doc.clientID)?.note === paste(20_000))
    await second.provider.disconnect()
    await until("that Bob has left", () => !statesOf(first).has(second.doc.clientID))
    expect([...first.errors, ...second.errors]).toEqual([])
  })
})

describe("a document that is deleted", () => {
  test("leaves no stream behind, and can be created again", async () => {
    const room = await open(1000)
    const writer = await room.join()
    await writer.write(paste(1500))
    await room.compacted(null)
    await writer.leave()
    expect((await fetch(room.documentUrl, { method: "DELETE" })).status).toBe(204)
    expect((await fetch(room.updatesUrl, { method: "HEAD" })).status).toBe(404)
    const another = await room.join()
    expect(another.content).toBe("")
    await another.write("anew")
    expect((await room.join()).content).toBe("anew")
  })
})
