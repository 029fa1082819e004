// Runs each function of the official TypeScript client against the server.

import { DurableStream, IdempotentProducer, stream } from "@durable-streams/client"
import { describe, expect, test } from "vitest"
import { fresh, JSON_TYPE, until } from "./support"

const TEXT = "text/plain"
const OCTETS = "application/octet-stream"

describe("create, append, read", () => {
  test("JSON values are read as they were written", async () => {
    const handle = await fresh(JSON_TYPE)
    await handle.append(JSON.stringify({ n: 1 }))
    await handle.append(JSON.stringify([{ n: 2 }, { n: 3 }]))
    const response = await stream<{ n: number }>({ url: handle.url, live: false })
    const values = await response.json()
    expect(values.map((value) => value.n)).toContain(1)
    expect(JSON.stringify(values)).toContain('{"n":3}')
  })

  test("texts are read as they were written", async () => {
    const handle = await fresh(TEXT)
    for (const token of ["Hello", ",", " wörld", "\n"]) await handle.append(token)
    expect(await (await stream({ url: handle.url, live: false })).text()).toBe("Hello, wörld\n")
  })

  test("bytes are read as they were written", async () => {
    const handle = await fresh(OCTETS)
    const octets = Uint8Array.from({ length: 256 }, (_, index) => index)
    await handle.append(octets)
    expect(await (await stream({ url: handle.url, live: false })).body()).toEqual(octets)
  })

  test("a reader resumes at its offset", async () => {
    const handle = await fresh(TEXT)
    await handle.append("before")
    const { offset } = await handle.head()
    await handle.append("after")
    expect(await (await stream({ url: handle.url, offset, live: false })).text()).toBe("after")
  })

  test("head and delete", async () => {
    const handle = await fresh(TEXT)
    const head = await DurableStream.head({ url: handle.url })
    expect(head.exists).toBe(true)
    expect(head.contentType).toContain(TEXT)
    await DurableStream.delete({ url: handle.url })
    await expect(handle.append("more")).rejects.toThrow()
  })
})

describe.each(["long-poll", "sse"] as const)("tail by %s", (live) => {
  test("JSON values up to the close", async () => {
    const handle = await fresh(JSON_TYPE)
    await handle.append("1")
    const response = await stream<number>({ url: handle.url, live })
    const seen: number[] = []
    response.subscribeJson(async (batch) => {
      seen.push(...batch.items)
    })
    await until("what was appended", () => seen.length === 1)
    for (const value of [2, 3, 4]) await handle.append(String(value))
    await until("what was appended", () => seen.length === 4)
    await handle.close({ body: "5" })
    await response.closed
    await until("what was appended", () => seen.length === 5)
    expect(seen).toEqual([1, 2, 3, 4, 5])
  })

  test("text with leading spaces", async () => {
    const handle = await fresh(TEXT)
    const response = await stream({ url: handle.url, live })
    let seen = ""
    response.subscribeText(async (chunk) => {
      seen += chunk.text
    })
    const tokens = ["The", " quick", "  brown", "\n fox", " "]
    for (const token of tokens) {
      await handle.append(token)
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    await handle.close()
    await response.closed
    expect(seen).toBe(tokens.join(""))
  })

  test("bytes", async () => {
    const handle = await fresh(OCTETS)
    const response = await stream({ url: handle.url, live })
    const seen: number[] = []
    response.subscribeBytes(async (chunk) => {
      seen.push(...chunk.data)
    })
    await handle.append(Uint8Array.of(0, 13, 10, 255))
    await until("what was appended", () => seen.length === 4)
    await handle.append(Uint8Array.of(128))
    await handle.close()
    await response.closed
    expect(seen).toEqual([0, 13, 10, 255, 128])
  })

  test("a resumed reader gets each value once", async () => {
    const handle = await fresh(JSON_TYPE)
    await handle.append("[1,2]")
    const { offset } = await handle.head()
    const response = await stream<number>({ url: handle.url, offset, live })
    const seen: number[] = []
    response.subscribeJson(async (batch) => {
      seen.push(...batch.items)
    })
    await handle.append("[3]")
    await until("what was appended", () => seen.length > 0)
    await handle.close()
    await response.closed
    expect(seen.flat()).toEqual([3])
  })
})

describe("the idempotent producer", () => {
  test("writes a thousand values once each and in order", async () => {
    const handle = await fresh(JSON_TYPE)
    const failures: Error[] = []
    const producer = new IdempotentProducer(handle, "p", { lingerMs: 0, onError: (error) => failures.push(error) })
    for (let index = 0; index < 1000; index++) {
      producer.append(JSON.stringify({ index }))
      if (index % 100 === 0) await new Promise((resolve) => setTimeout(resolve, 1))
    }
    await producer.flush()
    await producer.close()
    const values = await (await stream<{ index: number }>({ url: handle.url, live: false })).json()
    expect(failures).toEqual([])
    expect(values.map((value) => value.index)).toEqual(Array.from({ length: 1000 }, (_, index) => index))
    expect((await handle.head()).streamClosed).toBe(true)
  })

  test("does not write a repeated request again", async () => {
    const handle = await fresh(TEXT)
    const repeating: typeof fetch = async (input, init) => {
      if (init?.method === "POST") await fetch(input, init)
      return fetch(input, init)
    }
    const producer = new IdempotentProducer(handle, "p", { fetch: repeating, maxInFlight: 1 })
    for (const token of ["a", "b", "c"]) {
      producer.append(token)
      await producer.flush()
    }
    await producer.detach()
    expect(await (await stream({ url: handle.url, live: false })).text()).toBe("abc")
  })

  test("with a newer epoch fences the older epoch", async () => {
    const handle = await fresh(TEXT)
    const failures: Error[] = []
    const old = new IdempotentProducer(handle, "p", { epoch: 0, onError: (error) => failures.push(error) })
    old.append("old")
    await old.flush()
    const young = new IdempotentProducer(handle, "p", { epoch: 1 })
    young.append("young")
    await young.flush()
    old.append("zombie")
    await old.flush().catch((error: Error) => failures.push(error))
    expect(failures.length).toBeGreaterThan(0)
    expect(await (await stream({ url: handle.url, live: false })).text()).toBe("oldyoung")
  })
})

describe("closing", () => {
  test("a closed stream reports that and refuses appends", async () => {
    const handle = await fresh(TEXT)
    const { finalOffset } = await handle.close({ body: "end" })
    const head = await handle.head()
    expect(head.streamClosed).toBe(true)
    expect(head.offset).toBe(finalOffset)
    await expect(handle.append("more")).rejects.toThrow()
    expect((await handle.close()).finalOffset).toBe(finalOffset)
  })
})
