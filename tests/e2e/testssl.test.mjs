/* What testssl.sh says of a wss listener: no finding of severity HIGH or CRITICAL, TLS 1.2 and 1.3 alone.
 *
 * The certificate is one of a CA of the test's own, with a CRL that nobody fetches, since a self-signed one is a finding. In release only: it looks
 * at the protocol, and takes a minute. Skipped where there is no testssl.sh. */
import { assert, fs, path, serve, fresh, test, skip, done, command, temporary, VARIANT } from './lib.mjs';
import { spawnSync } from 'node:child_process';

const PROGRAM = ['testssl', 'testssl.sh'].find((name) => !spawnSync(name, ['--version']).error);
const CHECKS = ['--protocols', '--server-preference', '--server-defaults', '--fs', '--vulnerable'];

async function issued() {
  const dir = temporary();
  const file = (name) => path.join(dir, name);
  const openssl = (...args) => command('openssl', args, { cwd: dir });
  fs.writeFileSync(file('ext'), 'subjectAltName=DNS:localhost,IP:127.0.0.1\ncrlDistributionPoints=URI:http://localhost/ca.crl\n');
  await openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', 'ca.key', '-out', 'ca.pem', '-days', '90', '-subj', '/CN=test CA');
  await openssl('req', '-new', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', 'key.pem', '-out', 'csr', '-subj', '/CN=localhost');
  await openssl('x509', '-req', '-in', 'csr', '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '89', '-extfile', 'ext', '-out', 'cert.pem');
  return { cert: file('cert.pem'), key: file('key.pem'), ca: file('ca.pem'), json: file('findings.json') };
}

test('testssl.sh finds nothing HIGH or CRITICAL, and TLS 1.2 and 1.3 alone', async () => {
  if (VARIANT !== 'release') skip('in release only');
  if (!PROGRAM) skip('no testssl.sh: apt-get install testssl.sh');
  const { cert, key, ca, json } = await issued();
  const server = await serve(['--listen', 'wss://127.0.0.1:0', '--cert', cert, '--key', key]);
  const args = ['--quiet', '--warnings', 'off', '--color', '0', '--nodns', 'none', '--ip', '127.0.0.1', '--add-ca', ca, '--jsonfile', json, ...CHECKS, `localhost:${server.port('wss')}`];
  await command(PROGRAM, args, { code: null, seconds: 280 });
  const findings = JSON.parse(fs.readFileSync(json, 'utf8'));
  const said = (id) => findings.find((f) => f.id === id)?.finding;
  assert.ok(findings.length > 50, `${findings.length} findings`);
  assert.deepEqual(findings.filter(({ severity }) => ['HIGH', 'CRITICAL', 'FATAL'].includes(severity)), []);
  for (const id of ['SSLv2', 'SSLv3', 'TLS1', 'TLS1_1']) assert.match(said(id), /^not offered/, id);
  for (const id of ['TLS1_2', 'TLS1_3']) assert.match(said(id), /^offered/, id);
  for (const id of ['heartbleed', 'ROBOT', 'ticketbleed']) assert.match(said(id), /^not vulnerable/, id);
  await fresh(server, '/raw/fresh', { scheme: 'wss' });
}, { seconds: 300 });

await done();
