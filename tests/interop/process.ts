// The server under test as a process that a test can stop, kill and start again.

import { ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { createInterface } from "node:readline"

/** A server that keeps its streams in a directory. It has the same port after a restart. */
export class Server {
  private port = "0"
  private process?: ChildProcess

  /** Starts a server with a data directory. SERVER_COMMAND has the command as a JSON array. */
  static async start(directory: string): Promise<Server> {
    const server = new Server(directory)
    await server.start()
    return server
  }

  private constructor(private readonly directory: string) {}

  get url(): string {
    return `http://127.0.0.1:${this.port}`
  }

  async start(): Promise<void> {
    const [program, ...words] = JSON.parse(process.env.SERVER_COMMAND!) as string[]
    const flags = ["--data-dir", this.directory, "--port", this.port]
    this.process = spawn(program, [...words, ...flags], { stdio: ["ignore", "pipe", "inherit"] })
    for await (const line of createInterface({ input: this.process.stdout! })) {
      const found = /http:\S+/.exec(line)
      if (!found) continue
      this.port = new URL(found[0]).port
      return
    }
    throw new Error("the server ended before it listened")
  }

  /** Sends a signal to the process and waits until it has ended. */
  async end(signal: "SIGTERM" | "SIGKILL"): Promise<void> {
    if (!this.process || this.process.exitCode !== null || this.process.signalCode !== null) return
    const ended = once(this.process, "exit")
    this.process.kill(signal)
    await ended
  }
}
