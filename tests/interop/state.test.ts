// StreamDB of the official state package. Its tables are made from the changes in one stream.

import type { LiveMode } from "@durable-streams/client"
import { DurableStream, stream as read } from "@durable-streams/client"
import { MaterializedState } from "@durable-streams/state"
import type { ChangeEvent, StateEvent, StreamDB } from "@durable-streams/state/db"
import { createLiveQueryCollection, createStateSchema, createStreamDB, eq } from "@durable-streams/state/db"
import { randomUUID } from "node:crypto"
import { afterEach, describe, expect, test, vi } from "vitest"
import { fresh, JSON_TYPE, objects, slowly, until } from "./support"

vi.setConfig({ testTimeout: 30_000 })

interface User {
  id: string
  name: string
}

interface Message {
  id: string
  text: string
}

const schema = createStateSchema({
  users: { schema: objects<User>(), type: "user", primaryKey: "id" },
  messages: { schema: objects<Message>(), type: "message", primaryKey: "id" },
})

type Tables = StreamDB<typeof schema>

const open: { close(): void }[] = []

afterEach(() => {
  for (const db of open.splice(0)) db.close()
})

/** Returns a database that has loaded all changes of a stream and follows it. */
async function database(url: string, live: LiveMode, more: object = {}): Promise<Tables> {
  const db = createStreamDB({ streamOptions: { url, contentType: JSON_TYPE }, live, state: schema, ...more })
  open.push(db)
  await db.preload()
  return db
}

async function write(handle: DurableStream, ...events: StateEvent[]): Promise<void> {
  for (const event of events) await handle.append(JSON.stringify(event))
}

function user(id: string, name: string, headers = {}): ChangeEvent {
  return schema.users.insert({ value: { id, name }, headers })
}

function names(db: Tables): string[] {
  return [...db.collections.users.values()].map((row) => row.name).sort()
}

describe.each<LiveMode>(["long-poll", "sse", true])("a database that follows by %s", (live) => {
  test("loads earlier inserts, updates and deletes", async () => {
    const handle = await fresh(JSON_TYPE)
    await write(handle, user("1", "Ada"), user("2", "Bob"), user("3", "Cyd"))
    await write(handle, schema.users.update({ value: { id: "2", name: "Bea" } }), schema.users.delete({ key: "3" }))
    await write(handle, schema.messages.upsert({ value: { id: "m", text: "hi" } }))
    const db = await database(handle.url, live)
    expect(names(db)).toEqual(["Ada", "Bea"])
    expect(db.collections.messages.get("m")?.text).toBe("hi")
    expect(db.offset).toBe((await handle.head()).offset)
  })

  test("is ready on an empty stream, and then follows it", async () => {
    const handle = await fresh(JSON_TYPE)
    const db = await database(handle.url, live)
    expect(names(db)).toEqual([])
    await write(handle, user("1", "Ada"))
    await until("Ada", () => names(db).includes("Ada"))
    await write(handle, schema.users.update({ value: { id: "1", name: "Eve" } }))
    await until("Eve", () => names(db).includes("Eve"))
    await write(handle, schema.users.delete({ key: "1" }))
    await until("nobody", () => names(db).length === 0)
  })

  test("loads more rows than a page holds", async () => {
    const handle = await fresh(JSON_TYPE)
    const text = "x".repeat(1000)
    for (let batch = 0; batch < 6; batch++) {
      const events = Array.from({ length: 1000 }, (_, index) =>
        schema.messages.insert({ value: { id: `${batch}-${index}`, text } }),
      )
      const headers = { "content-type": JSON_TYPE }
      const response = await fetch(handle.url, { method: "POST", headers, body: JSON.stringify(events) })
      expect(response.status).toBe(204)
    }
    const db = await database(handle.url, live)
    expect(db.collections.messages.size).toBe(6000)
    await write(handle, schema.messages.insert({ value: { id: "last", text: "x".repeat(100_000) } }))
    await until("the last message", () => db.collections.messages.has("last"))
    expect(db.collections.messages.get("last")?.text.length).toBe(100_000)
  })

  test("gets each change once while live reads end and begin again", async () => {
    const handle = await fresh(JSON_TYPE)
    const seen: string[] = []
    let reads = 0
    const counting: typeof fetch = (input, init) => {
      if (String(input).includes("live=")) reads += 1
      return fetch(input, init)
    }
    const db = await database(handle.url, live, {
      streamOptions: { url: handle.url, contentType: JSON_TYPE, fetch: counting },
      onEvent: (event: ChangeEvent) => seen.push(event.key),
    })
    const say = (index: number): Promise<void> => write(handle, user(String(index), `user ${index}`))
    const count = await slowly(say, () => reads > 1 && seen.length > 0)
    await until("all changes", () => seen.length >= count)
    expect(seen).toEqual(Array.from({ length: count }, (_, index) => String(index)))
    expect(db.collections.users.size).toBe(count)
  })

  test("reports when a transaction has come back", async () => {
    const handle = await fresh(JSON_TYPE)
    const db = await database(handle.url, live)
    const [first, second] = [randomUUID(), randomUUID()]
    const waited = db.utils.awaitTxId(first)
    await write(handle, user("1", "Ada", { txid: first }), user("2", "Bob", { txid: second }))
    await waited
    expect(names(db)).toContain("Ada")
    await db.utils.awaitTxId(second)
    await db.utils.awaitTxId(first)
    await expect(db.utils.awaitTxId(randomUUID(), 10)).rejects.toThrow("Timeout")
  })

  test("shows an action immediately, and to others once it is written", async () => {
    const handle = await fresh(JSON_TYPE)
    const other = await database(handle.url, live)
    let writtenAt = 0
    const db = createStreamDB({
      stream: handle,
      live,
      state: schema,
      actions: ({ db, stream }) => ({
        add: {
          onMutate: (value: User) => {
            db.collections.users.insert(value)
          },
          mutationFn: async (value: User) => {
            const txid = randomUUID()
            await stream.append(JSON.stringify(schema.users.insert({ value, headers: { txid } })))
            writtenAt = Date.now()
            await db.utils.awaitTxId(txid)
          },
        },
      }),
    })
    open.push(db)
    await db.preload()
    const action = db.actions.add({ id: "1", name: "Ada" })
    expect(db.collections.users.get("1")?.name).toBe("Ada")
    expect(writtenAt).toBe(0)
    await action.isPersisted.promise
    expect(writtenAt).toBeGreaterThan(0)
    await until("Ada at the other", () => names(other).includes("Ada"))
    expect(names(db)).toEqual(["Ada"])
  })

  test("updates a query whose rows change", async () => {
    const handle = await fresh(JSON_TYPE)
    const db = await database(handle.url, live)
    const query = createLiveQueryCollection((q) =>
      q.from({ users: db.collections.users }).where(({ users }) => eq(users.name, "Ada")),
    )
    await query.preload()
    await write(handle, user("1", "Ada"), user("2", "Bob"), user("3", "Ada"))
    await until("two of one name", () => query.size === 2)
    await write(handle, schema.users.update({ value: { id: "3", name: "Cyd" } }))
    await until("one of that name", () => query.size === 1)
  })

  test("continues from an offset", async () => {
    const handle = await fresh(JSON_TYPE)
    await write(handle, user("1", "Ada"), user("2", "Bob"))
    const before = await database(handle.url, live)
    const { offset } = before
    before.close()
    await write(handle, user("3", "Cyd"))
    const rest = await read<ChangeEvent>({ url: handle.url, offset, live: false })
    expect((await rest.json()).map((event) => event.key)).toEqual(["3"])

    class Resumed extends DurableStream {
      override stream<T>(options?: Parameters<DurableStream["stream"]>[0]) {
        return super.stream<T>({ ...options, offset })
      }
    }
    const resumed = new Resumed({ url: handle.url, contentType: JSON_TYPE })
    const after = await database(handle.url, live, { stream: resumed })
    expect(names(after)).toEqual(["Cyd"])
    await write(handle, user("4", "Dan"))
    await until("Dan", () => names(after).includes("Dan"))
  })

  test("has the last change of a closed stream", async () => {
    const handle = await fresh(JSON_TYPE)
    const db = await database(handle.url, live)
    await write(handle, user("1", "Ada"))
    await handle.close({ body: JSON.stringify(user("2", "Bob")) })
    await until("Bob", () => names(db).includes("Bob"))
    expect(names(await database(handle.url, live))).toEqual(["Ada", "Bob"])
  })
})

describe("without a database", () => {
  test("the state can be computed from the changes of the stream", async () => {
    const handle = await fresh(JSON_TYPE)
    await write(handle, user("1", "Ada"), user("2", "Bob"), schema.users.delete({ key: "1" }))
    const state = new MaterializedState()
    state.applyBatch(await (await read<ChangeEvent>({ url: handle.url, live: false })).json())
    expect([...state.getType("user").values()]).toEqual([{ id: "2", name: "Bob" }])
  })

  test("a missing stream cannot be loaded", async () => {
    const handle = await fresh(JSON_TYPE)
    await handle.delete()
    await expect(database(handle.url, "sse")).rejects.toThrow()
  })
})
