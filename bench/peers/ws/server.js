// A push server as one writes it with ws: `/sub` receives what `/pub` sends. With JWT_KEY_FILE, `/sub` wants a
// `?token=` signed with HS256; node's own crypto checks it, which does less than a JWT library would.
const { createHmac, timingSafeEqual } = require("node:crypto");
const { createServer } = require("node:http");
const { readFileSync } = require("node:fs");
const { WebSocketServer } = require("ws");

const key = process.env.JWT_KEY_FILE && readFileSync(process.env.JWT_KEY_FILE);

function isGood(token) {
  const [head, claims, signature] = (token ?? "").split(".");
  if (signature === undefined) return false;
  const { alg } = JSON.parse(Buffer.from(head, "base64url"));
  const given = Buffer.from(signature, "base64url");
  const own = createHmac("sha256", key).update(`${head}.${claims}`).digest();
  if (alg !== "HS256" || given.length !== own.length || !timingSafeEqual(given, own)) return false;
  return JSON.parse(Buffer.from(claims, "base64url")).exp > Date.now() / 1000;
}

const subscribers = new Set();
const sockets = new WebSocketServer({ noServer: true, perMessageDeflate: false, clientTracking: false });
const server = createServer();

server.on("upgrade", (request, socket, head) => {
  const url = new URL(request.url, "http://bench");
  if (url.pathname === "/sub" && key && !isGood(url.searchParams.get("token"))) {
    socket.end("HTTP/1.1 401 Unauthorized\r\n\r\n");
    return;
  }
  sockets.handleUpgrade(request, socket, head, (client) => {
    client.on("error", () => client.terminate());
    if (url.pathname === "/pub") {
      client.on("message", (text) => {
        for (const subscriber of subscribers) subscriber.send(text, { binary: false });
      });
      return;
    }
    subscribers.add(client);
    client.on("close", () => subscribers.delete(client));
  });
});

// The backlog that the others have: 511, node's own, would refuse a storm of handshakes.
server.listen({ host: "127.0.0.1", port: 0, backlog: 4096 }, () => console.log(`READY ${server.address().port}`));
