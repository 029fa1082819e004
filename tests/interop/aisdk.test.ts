// The AI SDK with the official transport. The application writes each answer to a stream, and pages read it from there.

import { DurableStream } from "@durable-streams/client"
import { createDurableChatTransport, toDurableStreamResponse } from "@durable-streams/aisdk-transport"
import { AbstractChat, ChatState, ChatStatus, convertToModelMessages, streamText, UIMessage } from "ai"
import { MockLanguageModelV3 } from "ai/test"
import { randomUUID } from "node:crypto"
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest"
import { Answer, App, proxyRead, serve } from "./app"
import { address, counted, slowly, until } from "./support"

vi.setConfig({ testTimeout: 30_000 })

const USAGE = {
  inputTokens: { total: 1, noCache: 1, cacheRead: 0, cacheWrite: 0 },
  outputTokens: { total: 1, text: 1, reasoning: 0 },
}

/** Returns a model that gives this answer. */
function model(answer: Answer): MockLanguageModelV3 {
  async function* parts(signal?: AbortSignal) {
    yield { type: "stream-start" as const, warnings: [] }
    yield { type: "text-start" as const, id: "t" }
    try {
      for await (const delta of answer) yield { type: "text-delta" as const, id: "t", delta }
    } catch (error) {
      if (signal?.aborted) throw error
      yield { type: "error" as const, error } // providers do the same
      return
    }
    yield { type: "text-end" as const, id: "t" }
    yield { type: "finish" as const, finishReason: { unified: "stop" as const, raw: "stop" }, usage: USAGE }
  }
  return new MockLanguageModelV3({
    doStream: async ({ abortSignal }) => {
      abortSignal?.addEventListener("abort", () => answer.fail(abortSignal.reason))
      return { stream: ReadableStream.from(parts(abortSignal)) }
    },
  })
}

class PageState implements ChatState<UIMessage> {
  status: ChatStatus = "ready"
  error: Error | undefined = undefined
  constructor(public messages: UIMessage[]) {}
  pushMessage = (message: UIMessage): void => void (this.messages = [...this.messages, message])
  popMessage = (): void => void (this.messages = this.messages.slice(0, -1))
  replaceMessage = (index: number, message: UIMessage): void => void (this.messages = this.messages.with(index, message))
  snapshot = <T>(thing: T): T => structuredClone(thing)
}

/** A page that shows a chat. */
class Page extends AbstractChat<UIMessage> {
  readonly failures: Error[] = []

  constructor(app: App, id: string, messages: UIMessage[] = []) {
    const failures: Error[] = []
    const transport = createDurableChatTransport({ api: `${app.url}/api/chat` })
    super({ id, transport, state: new PageState(messages), onError: (error) => failures.push(error) })
    this.failures = failures
  }

  /** The text of the last message if the model wrote it, or an empty string. */
  get answer(): string {
    if (this.lastMessage?.role !== "assistant") return ""
    return this.lastMessage.parts.map((part) => (part.type === "text" ? part.text : "")).join("")
  }
}

interface Chat {
  messages: UIMessage[]
  streamPath: string | null
  abort: AbortController
}

let answer: Answer
let app: App
let chats: Map<string, Chat>
let writes: Promise<unknown>[]
let id: string
let mode: "immediate" | "await"
let liveReads: number

/** Writes the answer of the model to a new stream, and returns the URL to read it from. */
async function chat(request: Request): Promise<Response> {
  const { id, messages } = (await request.json()) as { id: string; messages: UIMessage[] }
  const record: Chat = { messages, streamPath: `chat/${id}/${randomUUID()}`, abort: new AbortController() }
  chats.set(id, record)
  const result = streamText({
    model: model(answer),
    messages: await convertToModelMessages(messages),
    abortSignal: record.abort.signal,
    maxRetries: 0,
    onError: () => {}, // the error is written to the stream
  })
  const source = result.toUIMessageStream({
    originalMessages: messages,
    generateMessageId: randomUUID,
    onError: (error) => String(error),
    onFinish: ({ messages: all }) => void Object.assign(record, { messages: all, streamPath: null }),
  })
  const readUrl = `${app.url}/api/read?path=${record.streamPath}`
  const stream = { writeUrl: `${address()}/v1/stream/${record.streamPath}`, readUrl }
  return toDurableStreamResponse({ source, stream, mode, waitUntil: (write) => void writes.push(write) })
}

/** Returns the URL of the answer in progress. */
async function resume(request: Request): Promise<Response> {
  const { streamPath } = chats.get(new URL(request.url).pathname.split("/")[3])!
  if (streamPath === null) return new Response(null, { status: 204 })
  const streamUrl = `${app.url}/api/read?path=${streamPath}`
  return Response.json({ streamUrl }, { headers: { Location: streamUrl } })
}

function readProxy(request: Request): Promise<Response> {
  if (request.url.includes("live=")) liveReads += 1
  return proxyRead(request, `${address()}/v1/stream/${new URL(request.url).searchParams.get("path")}`)
}

beforeEach(async () => {
  answer = new Answer()
  chats = new Map()
  writes = []
  id = randomUUID()
  mode = "immediate"
  liveReads = 0
  app = await serve({ "POST /api/chat": chat, "GET /api/chat/": resume, "GET /api/read": readProxy })
})

afterEach(async () => {
  answer.end()
  await Promise.all(writes)
  await app.close()
})

/** Opens a page and asks a question. Returns the page, and a promise that resolves at the end of the answer. */
function ask(text = "why?"): [Page, Promise<void>] {
  const page = new Page(app, id)
  return [page, page.sendMessage({ text })]
}

function handle(): DurableStream {
  return new DurableStream({ url: `${address()}/v1/stream/${chats.get(id)!.streamPath}` })
}

describe("an answer", () => {
  test("is shown token by token", async () => {
    const [page, done] = ask()
    let text = ""
    for (const token of ["Because", " of", "\n the", " wörld"]) {
      answer.say(token)
      text += token
      await until(text, () => page.answer === text)
      expect(page.status).toBe("streaming")
    }
    const stream = handle()
    answer.end()
    await done
    expect(page.answer).toBe(text)
    expect(page.status).toBe("ready")
    expect(page.failures).toEqual([])
    await until("the end of the stream", () => chats.get(id)!.streamPath === null)
    await Promise.all(writes)
    expect((await stream.head()).streamClosed).toBe(true)
  })

  test("of many tokens is complete and in order", async () => {
    const [page, done] = ask()
    const tokens = Array.from({ length: 3000 }, (_, index) => ` ${index}`)
    answer.say(...tokens)
    answer.end()
    await done
    expect(page.answer).toBe(tokens.join(""))
  })

  test("with a very long token is complete", async () => {
    const [page, done] = ask()
    const token = "long ".repeat(100_000)
    answer.say("a ", token, "z")
    answer.end()
    await done
    expect(page.answer).toBe("a " + token + "z")
  })

  test("to a second question is in another stream", async () => {
    const [page, first] = ask("one?")
    answer.say("1")
    answer.end()
    await first
    answer = new Answer()
    const second = page.sendMessage({ text: "two?" })
    answer.say("2")
    answer.end()
    await second
    expect(page.messages.map((message) => message.role)).toEqual(["user", "assistant", "user", "assistant"])
    expect(page.answer).toBe("2")
  })
})

describe("a long answer", () => {
  test("continues while live reads end and begin again", async () => {
    const [page, done] = ask()
    const count = await slowly((index) => answer.say(`${index} `), () => liveReads > 1)
    answer.end()
    await done
    expect(page.answer).toBe(counted(count))
    expect(page.failures).toEqual([])
  })
})

describe("a second page", () => {
  test("resumes an answer in the middle", async () => {
    const [page, done] = ask()
    answer.say("one ", "two ")
    await until("two tokens", () => page.answer === "one two ")
    const other = new Page(app, id, chats.get(id)!.messages)
    const resumed = other.resumeStream()
    await until("two tokens on the other page", () => other.answer === "one two ")
    answer.say("three")
    await until("three tokens on both", () => [page, other].every((each) => each.answer === "one two three"))
    answer.end()
    await Promise.all([done, resumed])
    expect(other.messages).toEqual(page.messages)
    expect([...page.failures, ...other.failures]).toEqual([])
  })

  test("has nothing to resume when the answer is complete", async () => {
    const [page, done] = ask()
    answer.say("all")
    answer.end()
    await done
    await Promise.all(writes)
    const other = new Page(app, id, chats.get(id)!.messages)
    await other.resumeStream()
    expect(other.answer).toBe("all")
    expect(other.messages).toEqual(page.messages)
  })
})

describe("a page that is reloaded in the middle", () => {
  test("gets the rest of the answer", async () => {
    const [page, done] = ask()
    answer.say("one ")
    await until("one token", () => page.answer === "one ")
    await page.stop()
    await done
    answer.say("two ")
    const reloaded = new Page(app, id, chats.get(id)!.messages)
    const resumed = reloaded.resumeStream()
    await until("two tokens", () => reloaded.answer === "one two ")
    answer.say("three")
    answer.end()
    await resumed
    expect(reloaded.answer).toBe("one two three")
    expect(page.answer).toBe("one ")
  })
})

describe("an incomplete answer", () => {
  test("ends on all pages when it is aborted", async () => {
    const [page, done] = ask()
    answer.say("half")
    await until("half", () => page.answer === "half")
    const other = new Page(app, id, chats.get(id)!.messages)
    const resumed = other.resumeStream()
    await until("half on the other page", () => other.answer === "half")
    const stream = handle()
    chats.get(id)!.abort.abort()
    await Promise.all([done, resumed])
    await Promise.all(writes)
    expect([page.answer, other.answer]).toEqual(["half", "half"])
    expect((await stream.head()).streamClosed).toBe(true)
    const chunks = await (await stream.stream<{ type: string }>({ live: false })).json()
    expect(chunks.at(-1)?.type).toBe("abort")
  })

  test("reports to its pages that the model failed", async () => {
    const [page, done] = ask()
    answer.say("half")
    await until("half", () => page.answer === "half")
    const stream = handle()
    answer.fail(new Error("the model is gone"))
    await done
    expect(page.status).toBe("error")
    expect(page.failures.map(String).join()).toContain("the model is gone")
    await Promise.all(writes)
    expect((await stream.head()).streamClosed).toBe(true)
  })
})

describe("an answer that the request waits for", () => {
  test("is complete at its final offset", async () => {
    mode = "await"
    answer.say("all", " of it")
    answer.end()
    const message = { id: "m", role: "user", parts: [{ type: "text", text: "why?" }] }
    const body = JSON.stringify({ id, messages: [message] })
    const response = await fetch(`${app.url}/api/chat`, { method: "POST", body })
    expect(response.status).toBe(200)
    const { streamUrl, finalOffset } = (await response.json()) as { streamUrl: string; finalOffset: string }
    expect(response.headers.get("location")).toBe(streamUrl)
    const path = new URL(streamUrl).searchParams.get("path")
    const head = await DurableStream.head({ url: `${address()}/v1/stream/${path}` })
    expect([head.offset, head.streamClosed]).toEqual([finalOffset, true])
  })
})
