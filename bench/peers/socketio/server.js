// A push server as one writes it with Socket.IO 4: channels with history, and in events what `pushbench` expects of a server
// (bench/src/pushbench/socketio.rs). Beside it the native protocol at /ws, so that both can be clients of one server.
//
// --port=0               where it serves; it prints `READY <port>`
// --token=text           what clients have to show
// --without-recovery     no connection state recovery
// --ping-ms=25000        between two pings; as long again a client may take to answer
// --lose=0               each so many-th message of a channel is in its log and reaches nobody: to see whether that is seen
//
// POST /api/publish is the gateway's, as far as `pushbench` needs it. POST /drop closes every connection, as a server does
// that will be back; GET /node counts.
const { createServer } = require("node:http");
const { parseArgs } = require("node:util");
const { Server } = require("socket.io");
const { WebSocketServer } = require("ws");

const HISTORY = 5000;
const NODE = "socketio";
const { values: options } = parseArgs({
  options: {
    port: { type: "string", default: "0" },
    token: { type: "string" },
    "without-recovery": { type: "boolean", default: false },
    "ping-ms": { type: "string", default: "25000" },
    lose: { type: "string", default: "0" },
  },
});
const lose = Number(options.lose);

// Another one after each start: what was before is gone.
const epoch = Date.now();
const channels = new Map();
const counts = { came: 0, resumed: 0, subscribed: 0, published: 0 };

function channelOf(name) {
  if (!channels.has(name)) channels.set(name, { offset: 0, log: [], natives: new Set() });
  return channels.get(name);
}

function subscribe({ channel: name, recover }) {
  counts.subscribed += 1;
  const { offset, log } = channelOf(name);
  const answer = { type: "subscribed", channel: name, timestamp: Date.now(), epoch, offset };
  if (!recover) return answer;
  const missed = offset - recover.offset;
  const recovered = recover.epoch === epoch && missed >= 0 && missed <= log.length;
  const messages = recovered ? log.slice(log.length - missed) : undefined;
  return { ...answer, recovered, messages };
}

function publish({ channel: name, data }) {
  const channel = channelOf(name);
  counts.published += 1;
  channel.offset += 1;
  const message = { channel: name, message: data, timestamp: Date.now(), offset: channel.offset };
  channel.log.push(message);
  if (channel.log.length > HISTORY) channel.log.shift();
  if (lose > 0 && channel.offset % lose === 0) return;
  io.to(name).emit("chat", message);
  const text = JSON.stringify({ type: "chat", ...message });
  for (const client of channel.natives) client.send(text);
}

const server = createServer((request, response) => {
  let body = "";
  request.on("data", (part) => (body += part));
  request.on("end", () => response.end(JSON.stringify(answer(`${request.method} ${request.url}`, body))));
});

function answer(request, body) {
  switch (request) {
    case "POST /api/publish":
      publish(JSON.parse(body));
      return {};
    case "POST /drop":
      for (const socket of io.sockets.sockets.values()) socket.conn.close();
      for (const client of natives.clients) client.close(1012, "Server restarting");
      return {};
    default:
      return { connections: io.sockets.sockets.size + natives.clients.size, ...counts };
  }
}

const io = new Server(server, {
  serveClient: false,
  pingInterval: Number(options["ping-ms"]),
  pingTimeout: Number(options["ping-ms"]),
  ...(!options["without-recovery"] && { connectionStateRecovery: {} }),
});
io.use((socket, next) => next(isGood(socket.handshake.auth.token) ? undefined : new Error("unauthorized")));
io.on("connection", (socket) => {
  counts.came += 1;
  if (socket.recovered) counts.resumed += 1;
  socket.emit("welcome", { connection: socket.id, node: NODE });
  socket.on("subscribe", (request, acknowledge) => {
    socket.join(request.channel);
    const subscribed = subscribe(request);
    acknowledge(subscribed);
    // An acknowledgement has no offset of Socket.IO: without this, who resumes would get what it brought once more.
    const { channel, offset } = subscribed;
    socket.emit("position", { channel, epoch, offset, recovered: true });
  });
});

const natives = new WebSocketServer({ noServer: true, perMessageDeflate: false });
server.on("upgrade", (request, socket, head) => {
  const url = new URL(request.url, "http://bench");
  // All else is Socket.IO's.
  if (url.pathname !== "/ws") return;
  if (!isGood(url.searchParams.get("token"))) {
    socket.end("HTTP/1.1 401 Unauthorized\r\n\r\n");
    return;
  }
  natives.handleUpgrade(request, socket, head, (client) => {
    counts.came += 1;
    client.on("error", () => client.terminate());
    client.send(JSON.stringify({ type: "welcome", connection: "~", node: NODE, ping: 25 }));
    client.on("message", (text) => {
      const asked = JSON.parse(text);
      const { natives } = channelOf(asked.channel);
      natives.add(client);
      client.on("close", () => natives.delete(client));
      client.send(JSON.stringify(subscribe(asked)));
    });
  });
});

function isGood(token) {
  return !options.token || token === options.token;
}

server.listen({ host: "127.0.0.1", port: Number(options.port), backlog: 4096 }, () =>
  console.log(`READY ${server.address().port}`),
);
