// An application between browsers and the server under test. It has HTTP routes, and a model whose answers come from the test.

import { createServer, IncomingMessage, ServerResponse } from "node:http"
import { AddressInfo } from "node:net"

/** Answers one request. */
export type Route = (request: Request) => Promise<Response>

/** An application that listens on a free port. */
export interface App {
  url: string
  close(): Promise<void>
}

/** Starts an application. The name of a route is a method and the start of a path, such as `POST /api/chat`. The longest matching route answers. */
export async function serve(routes: Record<string, Route>): Promise<App> {
  const server = createServer(async (incoming, outgoing) => {
    const name = `${incoming.method} ${incoming.url}`
    const route = Object.keys(routes).filter((prefix) => name.startsWith(prefix)).sort((a, b) => b.length - a.length)[0]
    const request = await toRequest(incoming, outgoing)
    await send(route ? await routes[route](request) : new Response(null, { status: 404 }), outgoing)
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  const { port } = server.address() as AddressInfo
  const close = (): Promise<void> =>
    new Promise((resolve) => {
      server.close(() => resolve())
      server.closeAllConnections()
    })
  return { url: `http://127.0.0.1:${port}`, close }
}

async function toRequest(incoming: IncomingMessage, outgoing: ServerResponse): Promise<Request> {
  const parts: Buffer[] = []
  for await (const part of incoming) parts.push(part as Buffer)
  const hasLeft = new AbortController()
  outgoing.on("close", () => hasLeft.abort())
  return new Request(new URL(incoming.url!, `http://${incoming.headers.host}`), {
    method: incoming.method,
    headers: incoming.headers as Record<string, string>,
    body: parts.length ? Buffer.concat(parts) : undefined,
    signal: hasLeft.signal,
  })
}

async function send(response: Response, outgoing: ServerResponse): Promise<void> {
  outgoing.writeHead(response.status, Object.fromEntries(response.headers))
  outgoing.flushHeaders()
  try {
    if (response.body) for await (const part of response.body) outgoing.write(part)
    outgoing.end()
  } catch {
    outgoing.destroy() // the client has left, or the server under test has cut its response; the browser must see that too
  }
}

/** Reads a stream for a browser, which must not know its URL, as the packages recommend. All parameters except `id` and `path` are passed on. */
export async function proxyRead(request: Request, streamUrl: string): Promise<Response> {
  const upstream = new URL(streamUrl)
  for (const [name, value] of new URL(request.url).searchParams) {
    if (name !== "id" && name !== "path") upstream.searchParams.append(name, value)
  }
  const accept = request.headers.get("accept")
  const response = await fetch(upstream, { headers: accept ? { accept } : {}, signal: request.signal })
  const headers = new Headers(response.headers)
  for (const name of ["connection", "transfer-encoding", "content-encoding", "content-length"]) headers.delete(name)
  headers.set("cache-control", "no-store")
  return new Response(response.status === 204 ? null : response.body, { status: response.status, headers })
}

/** The answer of a model. The test says its tokens one by one. */
export class Answer implements AsyncIterable<string> {
  private readonly tokens: string[] = []
  private hasEnded = false
  private failure?: Error
  private wake = (): void => {}

  say(...tokens: string[]): void {
    this.tokens.push(...tokens)
    this.wake()
  }

  end(): void {
    this.hasEnded = true
    this.wake()
  }

  fail(failure: Error): void {
    this.failure = failure
    this.wake()
  }

  async *[Symbol.asyncIterator](): AsyncIterator<string> {
    for (;;) {
      while (this.tokens.length) yield this.tokens.shift()!
      if (this.failure) throw this.failure
      if (this.hasEnded) return
      await new Promise<void>((resolve) => (this.wake = resolve))
    }
  }
}
