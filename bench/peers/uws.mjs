/* uWebSockets.js as a peer: /echo sends back; any other path is a channel, by its own subscribe and publish. */
import { createRequire } from 'node:module';

const [, , port, modules, cert, key] = process.argv;
const uws = createRequire(`${modules}/`)('uwebsockets');
const limits = { maxPayloadLength: 16 << 20, maxBackpressure: 16 << 20, idleTimeout: 120, compression: uws.DISABLED };
const app = cert ? uws.SSLApp({ cert_file_name: cert, key_file_name: key }) : uws.App();

app.ws('/echo', { ...limits, message: (socket, data, binary) => socket.send(data, binary) });
app.ws('/*', {
  ...limits,
  upgrade: (response, request, context) => response.upgrade({ path: request.getUrl() }, request.getHeader('sec-websocket-key'),
    request.getHeader('sec-websocket-protocol'), request.getHeader('sec-websocket-extensions'), context),
  open: (socket) => socket.subscribe(socket.getUserData().path),
  message: (socket, data, binary) => app.publish(socket.getUserData().path, data, binary), /* to the sender as well */
});
app.listen('127.0.0.1', Number(port), (listener) => (listener ? console.log('ready') : process.exit(1)));
