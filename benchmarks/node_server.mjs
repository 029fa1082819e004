// Runs the Node.js server: `node node_server.mjs PORT [DATA_DIR]`.

import { DurableStreamTestServer } from "@durable-streams/server"

const [port, dataDir] = process.argv.slice(2)
const server = new DurableStreamTestServer({ port: Number(port), host: "127.0.0.1", ...(dataDir && { dataDir }) })
await server.start()
console.log(`Listening on http://127.0.0.1:${port}`)
