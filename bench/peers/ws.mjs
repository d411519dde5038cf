/* npm ws as a peer: /echo sends back; any other path is a channel, whose messages go to all on that path. */
import { readFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { createRequire } from 'node:module';

const [, , port, modules, cert, key] = process.argv;
const { WebSocketServer, Sender } = createRequire(`${modules}/`)('ws');
const server = cert ? https.createServer({ cert: readFileSync(cert), key: readFileSync(key) }) : http.createServer();
const channels = new Map();

new WebSocketServer({ server, perMessageDeflate: false, maxPayload: 16 << 20 }).on('connection', (socket, request) => {
  const path = request.url.split('?')[0];
  socket.on('error', () => socket.terminate());
  if (path === '/echo') {
    socket.on('message', (data, binary) => socket.send(data, { binary }));
    return;
  }
  const members = channels.get(path) ?? new Set();
  channels.set(path, members.add(socket));
  socket.on('close', () => members.delete(socket));
  /* one frame for all, as its documentation advises who wants speed */
  socket.on('message', (data, binary) => {
    const frame = Sender.frame(data, { fin: true, rsv1: false, opcode: binary ? 2 : 1, mask: false, readOnly: false });
    for (const member of members) for (const part of frame) member._socket.write(part);
  });
});
server.listen({ port: Number(port), host: '127.0.0.1', backlog: 4096 }, () => console.log('ready'));
