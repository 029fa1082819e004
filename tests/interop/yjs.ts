// A Yjs server of the official package in front of the server under test, and peers that edit documents through it.

import { YjsProvider } from "@durable-streams/y-durable-streams"
import { YjsServer, YjsStreamPaths } from "@durable-streams/y-durable-streams/server"
import { randomUUID } from "node:crypto"
import { Awareness } from "y-protocols/awareness"
import * as Y from "yjs"
import { until } from "./support"

export type LiveMode = "sse" | "long-poll"

const SERVICE = "interop"

/** A user who edits one document. */
export class Peer {
  readonly doc = new Y.Doc()
  readonly text = this.doc.getText("text")
  readonly awareness?: Awareness
  readonly errors: Error[] = []
  readonly provider: YjsProvider

  constructor(baseUrl: string, docId: string, liveMode: LiveMode, isAware: boolean) {
    this.awareness = isAware ? new Awareness(this.doc) : undefined
    this.provider = new YjsProvider({ doc: this.doc, baseUrl, docId, liveMode, awareness: this.awareness, connect: false })
    this.provider.on("error", (error) => this.errors.push(error))
  }

  get content(): string {
    return this.text.toString()
  }

  /** Adds text at the end, and waits until the Yjs server has acknowledged it. */
  async write(addition: string): Promise<void> {
    this.text.insert(this.text.length, addition)
    await this.provider.flush()
  }

  /** Waits until the text equals `expected`. The error has only the lengths, because texts may be large. */
  async sees(expected: string): Promise<void> {
    const matches = (): boolean => this.text.length === expected.length && this.content === expected
    await until(`a text of ${expected.length} characters`, matches).catch((error: Error) => {
      const seen = `${this.text.length} were seen, errors: ${this.errors.map(String).join("; ") || "none"}`
      throw new Error(`${error.message}; ${seen}`)
    })
  }

  /** Sends the remaining edits and leaves the document for good. */
  async leave(): Promise<void> {
    await this.provider.disconnect()
    this.provider.destroy()
    this.awareness?.destroy()
    this.doc.destroy()
  }
}

/** A Yjs server with one document. */
export class Room {
  readonly docId = `project/${randomUUID()}`
  private readonly peers: Peer[] = []
  private server!: YjsServer
  private port = 0

  private constructor(
    private readonly streams: string,
    private readonly compactionThreshold: number,
  ) {}

  /** Starts a Yjs server that uses the server at `streams`. It compacts a document after `compactionThreshold` bytes of updates. */
  static async open(streams: string, compactionThreshold = Infinity): Promise<Room> {
    const room = new Room(streams, compactionThreshold)
    await room.start()
    return room
  }

  private async start(): Promise<void> {
    const { compactionThreshold, port } = this
    this.server = new YjsServer({ port, dsServerUrl: this.streams, compactionThreshold })
    this.port = Number(new URL(await this.server.start()).port)
  }

  /** Replaces the Yjs server by a new one, which knows only the streams. */
  async restart(): Promise<void> {
    await this.server.stop()
    await this.start()
    // `fetch` may still hold connections to the old server, and has to notice that they are closed.
    const isReachable = (): Promise<boolean> => fetch(this.documentUrl, { method: "HEAD" }).then(() => true, () => false)
    while (!(await isReachable()));
  }

  /** The URL of the document in the Yjs server. */
  get documentUrl(): string {
    return `${this.baseUrl}/docs/${this.docId}`
  }

  /** The URL of the stream of updates in the server under test. */
  get updatesUrl(): string {
    return `${this.streams}${YjsStreamPaths.dsStream(SERVICE, this.docId)}`
  }

  /** The offset up to which the document is compacted, or null. */
  get snapshotOffset(): string | null {
    return this.server.getDocumentState(SERVICE, this.docId)?.snapshotOffset ?? null
  }

  /** Lets another user join, and waits until the user has the document. */
  async join(liveMode: LiveMode = "sse", isAware = false): Promise<Peer> {
    const peer = new Peer(this.baseUrl, this.docId, liveMode, isAware)
    this.peers.push(peer)
    await peer.provider.connect()
    if (!peer.provider.synced) throw new Error(`a peer could not join: ${peer.errors.map(String).join("; ")}`)
    return peer
  }

  /** Waits until the document is compacted beyond `before`, and returns the offset of the new snapshot. */
  async compacted(before: string | null): Promise<string> {
    await until("a compaction", () => this.snapshotOffset !== before)
    return this.snapshotOffset!
  }

  async close(): Promise<void> {
    await Promise.all(this.peers.map((peer) => peer.leave()))
    await this.server.stop()
  }

  private get baseUrl(): string {
    return `${this.server.url}/v1/yjs/${SERVICE}`
  }
}
