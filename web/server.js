/* The server's methods, for this page: POST /admin/api/METHOD. The session stays in this tab. */

const SESSION = 'roost.session';

export const server = {
  settings: null, /* of GET /admin/settings */
  signedOut: () => {}, /* what to do when the session has ended */
};

/* Failure has a message for people; code is of docs/api.md, status of HTTP, 0: nobody answered. */
export class Failure extends Error {
  constructor(message, { code = 0, status = 0 } = {}) {
    super(message);
    this.code = code;
    this.status = status;
  }
}

/* What stands in the body of a refusal: "404 Not Found: nothing is served at this path". */
const reason = (text) => text.trim().replace(/^\d{3} [^:]*: /, '') || 'refused';

async function request(path, options) {
  let answer;
  try {
    answer = await fetch(path, { cache: 'no-store', ...options });
  } catch {
    throw new Failure('The server does not answer');
  }
  if (!answer.ok) throw new Failure(reason(await answer.text()), { status: answer.status });
  return answer.json();
}

function post(path, body) {
  const session = sessionStorage.getItem(SESSION);
  return request(path, {
    method: 'POST',
    headers: {
      'X-Roost-Console': '1',
      'X-Centrifugo-Error-Mode': 'reply',
      ...(session ? { Authorization: `Bearer ${session}` } : {}),
    },
    body: JSON.stringify(body),
  });
}

export async function start() {
  server.settings = await request('/admin/settings');
}

export const signedIn = () => !server.settings.sign_in || sessionStorage.getItem(SESSION) !== null;

export async function signIn(password) {
  const { token } = await post('/admin/login', { password });
  sessionStorage.setItem(SESSION, token);
}

export function signOut() {
  sessionStorage.removeItem(SESSION);
  server.signedOut();
}

async function asUs(path, body) {
  try {
    return await post(path, body);
  } catch (failure) {
    if (failure.status === 401) signOut();
    throw failure;
  }
}

function resultOf(answer) {
  if (answer.error) throw new Failure(answer.error.message, answer.error);
  return answer.result;
}

/* call answers a method's result. */
export async function call(method, params = {}) {
  return resultOf(await asUs(`/admin/api/${method}`, params));
}

/* calls does several at once, [['history', {...}], ...]: of each the result or a Failure. */
export async function calls(list) {
  const { replies } = await asUs('/admin/api/batch', { commands: list.map(([method, params]) => ({ [method]: params })) });
  return replies.map((reply, i) => {
    if (reply.error) return new Failure(reply.error.message, reply.error);
    return reply[list[i][0]];
  });
}

export async function makeToken(claims) {
  return (await asUs('/admin/token', claims)).token;
}
