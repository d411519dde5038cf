/* contrib/Containerfile, kubernetes.yaml and keda.yaml: no cluster and no container tool is needed to see that what they say of roost is
 * so. Options are those that it takes, ports and paths those that it answers, metrics those that it has, and the times add up. */
import { assert, fs, path, ROOST, SECRET, API_KEY, serve, launch, connect, metrics, request, publish, test, done, temporary, until, within, patience, command, sanitizerEnv } from './lib.mjs';
import { fileURLToPath } from 'node:url';
import { parseAllDocuments } from 'yaml';

const CONTRIB = path.join(path.dirname(fileURLToPath(import.meta.url)), '../../contrib');
const text = (name) => fs.readFileSync(path.join(CONTRIB, name), 'utf8');

/* documents: strict, so a key that is there twice is an error. version 1.1: what Kubernetes' own reader makes of it. */
function documents(name) {
  const read = (version) => parseAllDocuments(text(name), { version, strict: true, uniqueKeys: true }).map((d) => {
    assert.deepEqual([...d.errors, ...d.warnings].map(String), [], name);
    return d.toJS();
  });
  assert.deepEqual(read('1.1'), read('1.2'), 'both versions of YAML read the same');
  return read('1.1');
}

const ALL = documents('kubernetes.yaml');
const [SCALED] = documents('keda.yaml');
const one = (kind, name = 'roost') => ALL.find((o) => o.kind === kind && o.metadata.name === name);
const POD = one('Deployment').spec.template;
const BOX = POD.spec.containers[0];
const HPA = one('HorizontalPodAutoscaler').spec;
const CONFIG = JSON.parse(one('ConfigMap').data['config.json']);
const portNamed = (name) => BOX.ports.find((p) => p.name === name).containerPort;
const portOf = (url) => Number(new URL(url).port);
const seconds = (value) => Number(value.match(/^(\d+)s$/)[1]);

/* instructions of the Containerfile, by name; those of a list in brackets are read as JSON, as the builder does. */
function instructions() {
  const found = {};
  for (const line of text('Containerfile').split('\n')) {
    if (!line || line.startsWith('#')) continue;
    const [, name, rest] = line.match(/^([A-Z]+) (.+)$/);
    (found[name] ||= []).push(rest);
  }
  return found;
}

/* mounted lays the ConfigMap and the Secret out as the kubelet does, files that are links into a folder that is a link, with other ports; answers the name of the configuration. */
function mounted() {
  const dir = temporary();
  const volumes = { config: { 'config.json': '' }, secrets: { token_secret: `${SECRET}\n`, api_key: `${API_KEY}\n` } };
  const at = Object.fromEntries(BOX.volumeMounts.map((m) => [m.name, { path: m.mountPath, dir: path.join(dir, m.name) }]));
  const moved = (value) => (value.startsWith(at.secrets.path) ? value.replace(at.secrets.path, at.secrets.dir) : value.replace(/^(ws:\/\/)0\.0\.0\.0:\d+$/, '$1127.0.0.1:0'));
  volumes.config['config.json'] = JSON.stringify(CONFIG, (key, value) => (typeof value === 'string' ? moved(value) : value));
  for (const [name, files] of Object.entries(volumes)) {
    fs.mkdirSync(path.join(at[name].dir, '..of-today'), { recursive: true });
    fs.symlinkSync('..of-today', path.join(at[name].dir, '..data'));
    for (const [file, content] of Object.entries(files)) {
      fs.writeFileSync(path.join(at[name].dir, '..data', file), content, { mode: 0o440 });
      fs.symlinkSync(path.join('..data', file), path.join(at[name].dir, file));
    }
  }
  return { config: path.join(at.config.dir, path.relative(at.config.path, BOX.args[1])), secrets: Object.keys(volumes.secrets), at };
}

test('kubernetes.yaml: what each kind must have, and nothing that belongs to a namespace', () => {
  const kinds = { ConfigMap: 'v1', Deployment: 'apps/v1', Service: 'v1', NetworkPolicy: 'networking.k8s.io/v1', PodDisruptionBudget: 'policy/v1', HorizontalPodAutoscaler: 'autoscaling/v2' };
  assert.deepEqual(ALL.map((o) => `${o.kind}/${o.metadata.name}`),
    ['ConfigMap/roost', 'Deployment/roost', 'Service/roost', 'Service/roost-pods', 'NetworkPolicy/roost', 'PodDisruptionBudget/roost', 'HorizontalPodAutoscaler/roost']);
  for (const o of ALL) {
    assert.equal(o.apiVersion, kinds[o.kind]);
    assert.equal(o.metadata.namespace, undefined);
  }
  const { selector, strategy, replicas } = one('Deployment').spec;
  for (const labels of [selector.matchLabels, one('Service').spec.selector, one('Service', 'roost-pods').spec.selector, one('PodDisruptionBudget').spec.selector.matchLabels,
    POD.spec.topologySpreadConstraints[0].labelSelector.matchLabels]) assert.deepEqual(labels, POD.metadata.labels);
  assert.deepEqual(strategy, { type: 'RollingUpdate', rollingUpdate: { maxUnavailable: 0, maxSurge: 1 } });
  assert.equal(replicas, HPA.minReplicas);
  const mounts = BOX.volumeMounts.map((m) => m.name);
  assert.deepEqual(POD.spec.volumes.map((v) => v.name), mounts);
  assert.equal(POD.spec.volumes[0].configMap.name, one('ConfigMap').metadata.name);
  assert.ok(BOX.resources.requests.cpu && BOX.resources.requests.memory === BOX.resources.limits.memory);
  assert.equal(one('PodDisruptionBudget').spec.maxUnavailable, 1);
  const { podSelector, ingress } = one('NetworkPolicy').spec;
  assert.deepEqual(podSelector.matchLabels, POD.metadata.labels);
  assert.deepEqual(ingress.map((rule) => [rule.ports[0].port, Boolean(rule.from)]), [['ws', false], ['admin', true]]);
  for (const rule of ingress) portNamed(rule.ports[0].port);
});

test('the pod has no rights that it does not need', () => {
  const image = instructions();
  const { securityContext: pod } = POD.spec;
  assert.equal(image.USER.at(-1), `${pod.runAsUser}:${pod.runAsGroup}`);
  assert.ok(pod.runAsNonRoot && pod.runAsUser > 0 && pod.fsGroup === pod.runAsGroup);
  assert.deepEqual(pod.seccompProfile, { type: 'RuntimeDefault' });
  assert.deepEqual(BOX.securityContext, { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: ['ALL'] } });
  assert.ok(BOX.volumeMounts.every((m) => m.readOnly));
  assert.equal(POD.spec.automountServiceAccountToken, false);
  assert.equal(POD.spec.enableServiceLinks, false);
  const { secret } = POD.spec.volumes.find((v) => v.name === 'secrets');
  assert.equal(secret.defaultMode, 0o440);
  assert.deepEqual(secret.items.map((i) => [i.key, i.path]), mounted().secrets.map((s) => [s, s]));
});

test('ports agree: configuration, container, probes, services, annotations, image', () => {
  assert.deepEqual(CONFIG.listen.map(portOf), [portNamed('ws')]);
  assert.deepEqual(CONFIG.admin_listen.map(portOf), [portNamed('admin')]);
  assert.ok([...CONFIG.listen, ...CONFIG.admin_listen].every((url) => new URL(url).hostname === '0.0.0.0'));
  for (const name of ['roost', 'roost-pods']) {
    for (const p of one('Service', name).spec.ports) assert.equal(p.port, portNamed(p.targetPort), name);
  }
  const pods = one('Service', 'roost-pods').spec;
  assert.deepEqual([pods.clusterIP, pods.publishNotReadyAddresses, pods.ports[0].targetPort], ['None', true, 'admin']);
  assert.equal(POD.metadata.annotations['prometheus.io/port'], String(portNamed('admin')));
  const image = instructions();
  assert.deepEqual(image.EXPOSE, [`${portNamed('ws')} ${portNamed('admin')}`]);
  const cmd = JSON.parse(image.CMD[0]);
  assert.deepEqual([portOf(cmd[cmd.indexOf('--listen') + 1]), portOf(cmd[cmd.indexOf('--admin-listen') + 1])], [portNamed('ws'), portNamed('admin')]);
  const health = JSON.parse(image.HEALTHCHECK[0].match(/CMD (.*)/)[1]);
  assert.deepEqual([health.slice(0, 2), portOf(health[2])], [['/roost', 'ready'], portNamed('admin')]);
});

test('a stop has its time, and its parts add up', () => {
  const { delay, timeout, close_rate: rate } = CONFIG.shutdown;
  const stop = BOX.lifecycle.preStop.sleep.seconds + seconds(delay) + seconds(timeout);
  assert.ok(BOX.lifecycle.preStop.sleep.seconds >= 5);
  assert.ok(POD.spec.terminationGracePeriodSeconds >= stop + 10);
  assert.ok(one('Deployment').spec.minReadySeconds >= stop);
  assert.ok(CONFIG.client.connection_limit / rate <= 0.8 * seconds(timeout), 'the rate need not be raised');
  const { readinessProbe: ready, livenessProbe: live } = BOX;
  assert.ok(ready.periodSeconds * ready.failureThreshold <= seconds(delay), 'not ready is noticed within the delay');
  assert.ok(live.periodSeconds * live.failureThreshold > 2 * ready.periodSeconds * ready.failureThreshold);
  assert.equal(instructions().STOPSIGNAL.at(-1), 'SIGTERM');
});

test('the HPA and KEDA follow open connections, and shrink slowly', () => {
  const [metric] = HPA.metrics;
  assert.equal(metric.type, 'Pods');
  assert.equal(metric.pods.target.type, 'AverageValue');
  const target = Number(metric.pods.target.averageValue);
  assert.ok(target > 0 && target <= 0.8 * CONFIG.client.connection_limit);
  assert.equal(HPA.scaleTargetRef.name, one('Deployment').metadata.name);
  assert.deepEqual(HPA.behavior.scaleDown, { stabilizationWindowSeconds: 1800, policies: [{ type: 'Pods', value: 1, periodSeconds: 600 }] });
  assert.ok(HPA.behavior.scaleDown.policies[0].periodSeconds > POD.spec.terminationGracePeriodSeconds, 'one stop is over before the next');
  const { spec } = SCALED;
  assert.deepEqual([SCALED.apiVersion, SCALED.kind], ['keda.sh/v1alpha1', 'ScaledObject']);
  assert.deepEqual([spec.scaleTargetRef, spec.minReplicaCount, spec.maxReplicaCount], [HPA.scaleTargetRef, HPA.minReplicas, HPA.maxReplicas]);
  assert.deepEqual(spec.advanced.horizontalPodAutoscalerConfig.behavior, HPA.behavior);
  const [trigger] = spec.triggers;
  assert.deepEqual([trigger.type, trigger.metricType], ['prometheus', 'AverageValue']);
  assert.ok(Object.values(trigger.metadata).every((v) => typeof v === 'string'), 'KEDA takes strings alone');
  assert.deepEqual([Number(trigger.metadata.threshold), trigger.metadata.ignoreNullValues], [target, 'false']);
});

test('roost check takes the configuration as it is mounted, without a warning', async () => {
  const { config } = mounted();
  const env = { PATH: process.env.PATH, ...sanitizerEnv };
  const checked = await command(ROOST, ['check', ...BOX.args.slice(0, 1), config], { env });
  assert.doesNotMatch(checked.err, /warning|error/);
  const effect = JSON.parse(checked.out);
  assert.equal(effect.client.connection_limit, CONFIG.client.connection_limit);
  assert.equal(effect.shutdown.delay, CONFIG.shutdown.delay);
  fs.writeFileSync(`${config}.bad`, fs.readFileSync(config, 'utf8').replace('close_rate', 'closing_rate'));
  assert.equal((await command(ROOST, ['check', '--config', `${config}.bad`], { env, code: null })).code === 0, false);
});

test('a server with that configuration answers the probes, also while it stops, and has the metrics', async () => {
  const { config, at } = mounted();
  assert.deepEqual(BOX.args, ['--config', `${at.config.path}/config.json`]);
  const args = JSON.parse(instructions().ENTRYPOINT[0]).slice(1);
  const server = await launch([...args, '--config', config, '--log-format', 'text', '--shutdown.delay', '60s'], { env: { ROOST_PORT: 'tcp://10.0.0.1:8000' } }).ready();
  const admin = { nth: 1 };
  assert.equal(server.urls.length, 2);
  const probe = ({ httpGet }) => {
    assert.equal(httpGet.port, 'admin');
    return request(server, { target: httpGet.path, ...admin });
  };
  const client = await connect(server, '/raw/chat');
  const found = await metrics(server, { target: POD.metadata.annotations['prometheus.io/path'], ...admin });
  assert.equal((await request(server, { target: '/metrics' })).status, 404, 'not where clients are');
  const { query } = SCALED.spec.triggers[0].metadata;
  for (const name of [HPA.metrics[0].pods.metric.name, query.match(/^sum\((\w+)\)$/)[1]]) assert.equal(found.get(name.replace(/^roost_/, '')), 1, name);
  assert.equal((await probe(BOX.readinessProbe)).status, 200);
  assert.equal((await probe(BOX.livenessProbe)).status, 200);
  assert.equal((await publish(server, 'chat', 'to each pod', admin)).status, 200);
  assert.match(String(await client.next()), /to each pod/);
  const ready = () => command(ROOST, ['ready', `http://127.0.0.1:${server.port('ws', 1)}`], { env: { PATH: process.env.PATH, ...sanitizerEnv }, code: null });
  assert.equal((await ready()).code, 0);
  server.child.kill('SIGTERM');
  await until(async () => (await probe(BOX.readinessProbe)).status === 503, 'not ready');
  assert.equal((await probe(BOX.livenessProbe)).status, 200, 'alive while it stops');
  assert.equal((await ready()).code, 1);
  await client.end();
  server.child.kill('SIGTERM');
  await within(server.exited, patience(10000), 'exit');
});

test('the image: its CMD starts a server, and what it copies is what the tarball has', async () => {
  const image = instructions();
  assert.deepEqual(image.FROM, ['debian:12 AS build', 'scratch']);
  assert.deepEqual(JSON.parse(image.ENTRYPOINT[0]), ['/roost', 'serve']);
  assert.ok(image.COPY.includes('--from=build /out/roost /roost'));
  const cmd = JSON.parse(image.CMD[0]).map((a) => a.replace(/^(ws:\/\/)0\.0\.0\.0:\d+$/, '$1127.0.0.1:0'));
  const server = await serve(cmd);
  assert.equal((await request(server, { target: '/readyz', nth: 1 })).status, 200);
  const root = path.join(CONTRIB, '..');
  for (const file of ['scripts/deps.sh', 'LICENSE', 'NOTICE']) assert.ok(fs.existsSync(path.join(root, file)), file);
  const dist = fs.readFileSync(path.join(root, 'scripts/dist.sh'), 'utf8');
  for (const name of ['kubernetes.yaml', 'keda.yaml']) assert.ok(dist.includes(`contrib/${name}`), name);
});

await done();
