// TanStack AI with the official transport. A whole chat is one stream, which all its pages follow.

import { DurableStream } from "@durable-streams/client"
import {
  durableStreamConnection,
  ensureDurableChatSessionStream,
  materializeSnapshotFromDurableStream,
  toDurableChatSessionResponse,
  toDurableStreamResponse,
} from "@durable-streams/tanstack-ai-transport"
import { chat, EventType, StreamChunk } from "@tanstack/ai"
import { BaseTextAdapter } from "@tanstack/ai/adapters"
import { ChatClient, UIMessage } from "@tanstack/ai-client"
import { randomUUID } from "node:crypto"
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest"
import { Answer, App, proxyRead, serve } from "./app"
import { address, counted, JSON_TYPE, slowly, until } from "./support"

vi.setConfig({ testTimeout: 30_000 })

/** A model that gives one answer. */
class Model extends BaseTextAdapter<"fake", object, ["text"], never> {
  readonly name = "interop"

  constructor(private readonly answer: Answer) {
    super({}, "fake")
  }

  async *chatStream(): AsyncIterable<StreamChunk> {
    const runId = randomUUID()
    const messageId = randomUUID()
    const common = { model: this.model, timestamp: Date.now() }
    yield { type: EventType.RUN_STARTED, runId, threadId: "t", ...common } as StreamChunk
    yield { type: EventType.TEXT_MESSAGE_START, messageId, role: "assistant", ...common } as StreamChunk
    let content = ""
    for await (const delta of this.answer) {
      content += delta
      yield { type: EventType.TEXT_MESSAGE_CONTENT, messageId, delta, content, ...common } as StreamChunk
    }
    yield { type: EventType.TEXT_MESSAGE_END, messageId, ...common } as StreamChunk
    yield { type: EventType.RUN_FINISHED, runId, threadId: "t", finishReason: "stop", ...common } as StreamChunk
  }

  async structuredOutput(): Promise<never> {
    throw new Error("nobody asks for structured output")
  }
}

/** A page that shows the chat and follows it. */
class Page {
  readonly failures: Error[] = []
  private readonly client: ChatClient

  constructor(initialMessages: UIMessage[] = [], initialOffset?: string) {
    const connection = durableStreamConnection({
      sendUrl: `${app.url}/api/chat?id=${id}`,
      readUrl: `${app.url}/api/read?id=${id}`,
      initialOffset,
    })
    this.client = new ChatClient({ connection, initialMessages, onError: (error) => this.failures.push(error) })
    this.client.subscribe()
    pages.push(this)
  }

  /** Asks a question, and waits until the whole answer is shown. */
  ask(text: string): Promise<void> {
    return this.client.sendMessage(text)
  }

  /** The messages on the page, one line for each. */
  get lines(): string[] {
    return this.client.getMessages().map((message) => `${message.role}: ${textOf(message)}`)
  }

  async shows(...lines: string[]): Promise<void> {
    const expected = JSON.stringify(lines)
    await until(expected.slice(0, 200), () => JSON.stringify(this.lines) === expected).catch((error: Error) => {
      throw new Error(`${error.message}; shown: ${JSON.stringify(this.lines).slice(0, 500)}`)
    })
  }

  leave(): void {
    this.client.unsubscribe()
    this.client.dispose()
  }
}

function textOf(message: { parts: { type: string; content?: unknown }[] }): string {
  return message.parts.map((part) => (part.type === "text" ? String(part.content) : "")).join("")
}

let answer: Answer
let app: App
let id: string
let pages: Page[]
let writes: Promise<unknown>[]
let abort: AbortController
let liveReads: number

function streamUrl(): string {
  return `${address()}/v1/stream/chat-${id}`
}

/** Writes the question and the answer of the model to the stream of the chat. */
async function post(request: Request): Promise<Response> {
  const { messages } = (await request.json()) as { messages: UIMessage[] }
  abort = new AbortController()
  const asked = answer
  abort.signal.addEventListener("abort", () => asked.end())
  return toDurableChatSessionResponse({
    stream: { writeUrl: streamUrl() },
    newMessages: [messages.findLast((message) => message.role === "user")!],
    responseStream: chat({ adapter: new Model(asked), messages, abortController: abort }),
    waitUntil: (write) => void writes.push(write),
  })
}

function readProxy(request: Request): Promise<Response> {
  if (request.url.includes("live=")) liveReads += 1
  return proxyRead(request, streamUrl())
}

beforeEach(async () => {
  answer = new Answer()
  id = randomUUID()
  pages = []
  writes = []
  liveReads = 0
  app = await serve({ "POST /api/chat": post, "GET /api/read": readProxy })
  await ensureDurableChatSessionStream({ writeUrl: streamUrl() })
})

afterEach(async () => {
  answer.end()
  for (const page of pages) page.leave()
  await Promise.all(writes)
  await app.close()
})

describe("an answer", () => {
  test("is shown token by token", async () => {
    const page = new Page()
    const done = page.ask("why?")
    let text = ""
    for (const token of ["Because", " of", "\n the", " wörld"]) {
      answer.say(token)
      text += token
      await page.shows("user: why?", `assistant: ${text}`)
    }
    answer.end()
    await done
    await page.shows("user: why?", `assistant: ${text}`)
    expect(page.failures).toEqual([])
  })

  test("of many tokens is complete and in order", async () => {
    const page = new Page()
    const done = page.ask("why?")
    const tokens = Array.from({ length: 1000 }, (_, index) => ` ${index}`)
    answer.say(...tokens)
    answer.end()
    await done
    await page.shows("user: why?", `assistant: ${tokens.join("")}`)
  })

  test("with a very long token is complete", async () => {
    const page = new Page()
    const done = page.ask("why?")
    const token = "long ".repeat(100_000)
    answer.say(token, "z")
    answer.end()
    await done
    await page.shows("user: why?", `assistant: ${token}z`)
  })

  test("is shown by every page of the chat", async () => {
    const first = new Page()
    const second = new Page()
    const done = first.ask("one?")
    answer.say("1")
    await Promise.all([first, second].map((page) => page.shows("user: one?", "assistant: 1")))
    answer.end()
    await done
    answer = new Answer()
    const again = second.ask("two?")
    answer.say("2")
    const lines = ["user: one?", "assistant: 1", "user: two?", "assistant: 2"]
    await Promise.all([first, second].map((page) => page.shows(...lines)))
    answer.end()
    await again
    expect([...first.failures, ...second.failures]).toEqual([])
  })

  test("continues while live reads end and begin again", async () => {
    const page = new Page()
    const done = page.ask("why?")
    const count = await slowly((index) => answer.say(`${index} `), () => liveReads > 1)
    answer.end()
    await done
    await page.shows("user: why?", `assistant: ${counted(count)}`)
    expect(page.failures).toEqual([])
  })
})

describe("a page that is loaded in the middle of an answer", () => {
  test("gets the earlier tokens and the rest", async () => {
    const page = new Page()
    const done = page.ask("why?")
    answer.say("one ", "two ")
    await page.shows("user: why?", "assistant: one two ")
    page.leave()
    await done.catch(() => {})
    const reloaded = new Page()
    await reloaded.shows("user: why?", "assistant: one two ")
    answer.say("three")
    await reloaded.shows("user: why?", "assistant: one two three")
    answer.end()
    await Promise.all(writes)
    expect(reloaded.failures).toEqual([])
  })

  test("continues from the snapshot of its server", async () => {
    const page = new Page()
    const done = page.ask("why?")
    answer.say("one ", "two ")
    await page.shows("user: why?", "assistant: one two ")
    const { messages, offset } = await materializeSnapshotFromDurableStream({ readUrl: streamUrl() })
    expect(messages.map(textOf)).toEqual(["why?", "one two "])
    expect(offset).toBe((await DurableStream.head({ url: streamUrl() })).offset)
    const loaded = new Page(messages as UIMessage[], offset)
    await loaded.shows("user: why?", "assistant: one two ")
    answer.say("three")
    await Promise.all([page, loaded].map((each) => each.shows("user: why?", "assistant: one two three")))
    answer.end()
    await done
    expect([...page.failures, ...loaded.failures]).toEqual([])
  })
})

describe("an answer that is aborted", () => {
  test("keeps its text, and the chat continues", async () => {
    const page = new Page()
    const other = new Page()
    void page.ask("one?")
    answer.say("half")
    await Promise.all([page, other].map((each) => each.shows("user: one?", "assistant: half")))
    abort.abort()
    await Promise.all(writes)
    answer = new Answer()
    const again = other.ask("two?")
    answer.say("whole")
    const lines = ["user: one?", "assistant: half", "user: two?", "assistant: whole"]
    await Promise.all([page, other].map((each) => each.shows(...lines)))
    answer.end()
    await again
    expect((await DurableStream.head({ url: streamUrl() })).streamClosed).toBe(false)
  })
})

describe("chunks of any source", () => {
  test("become a stream that is closed at the final offset", async () => {
    async function* chunks(): AsyncIterable<object> {
      for (let n = 0; n < 100; n++) yield { n }
    }
    const writeUrl = `${address()}/v1/stream/${randomUUID()}`
    const response = await toDurableStreamResponse(chunks(), { stream: { writeUrl }, mode: "await" })
    const { streamUrl: readUrl, finalOffset } = (await response.json()) as { streamUrl: string; finalOffset: string }
    const handle = new DurableStream({ url: readUrl, contentType: JSON_TYPE })
    const head = await handle.head()
    expect([head.offset, head.streamClosed]).toEqual([finalOffset, true])
    const values = await (await handle.stream<{ n: number }>({ live: "sse" })).json()
    expect(values.map((value) => value.n)).toEqual(Array.from({ length: 100 }, (_, n) => n))
  })
})
