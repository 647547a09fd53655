/** EDGE: asks the running agent over its status socket. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { VifdError } from '../errors.js';
import { runDirectory } from './run-directory.js';
import { statusSocketPath } from './status-socket.js';

/** The agent gives up on the slow itself; this is for one that is stopped. */
const ANSWER_MS = 5_000;

/**
 * The agent's answer, line by line. `metrics` and `config` come to an end; `follow` when the agent ends, when this reader was too slow,
 * or by the signal. Throws with code ENOAGENT where no agent can be asked, ETIMEDOUT when it does not answer.
 */
export async function* askAgent(
  request: 'metrics' | 'config' | 'follow',
  { dir = runDirectory(), signal }: { dir?: string | undefined; signal?: AbortSignal } = {},
): AsyncGenerator<string, void, undefined> {
  const socket = await connectTo(dir);
  const stop = () => socket.destroy();
  signal?.addEventListener('abort', stop);
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    stop();
  }, ANSWER_MS);
  try {
    if (signal?.aborted) return;
    socket.write(`${request}\n`);
    let count = 0;
    for await (const line of linesOf(socket, statusSocketPath(dir ?? ''))) {
      if (request === 'follow') clearTimeout(timer); // between two records any time may pass
      count++;
      yield line;
    }
    if (late) throw new VifdError('ETIMEDOUT', `${statusSocketPath(dir ?? '')}: vifd does not answer; is it stopped?`);
    if (count === 0 && !signal?.aborted) throw busy(dir);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', stop);
    stop();
  }
}

/** Characters. No record of the log and no sample is longer. */
const LINE_MAX = 1 << 20;

/** Until the connection ends, in whatever way. Throws with code EPROTO for a line without an end. */
async function* linesOf(socket: Socket, path: string): AsyncGenerator<string, void, undefined> {
  let rest = '';
  const chunks = socket.setEncoding('utf8')[Symbol.asyncIterator]();
  for (;;) {
    const { done, value } = await chunks.next().catch(() => ({ done: true, value: '' }));
    if (done) return;
    const lines = (rest + value).split('\n');
    rest = lines.pop() ?? '';
    if (rest.length > LINE_MAX)
      throw new VifdError('EPROTO', `${path}: a line of more than ${LINE_MAX} characters; no vifd answers there`);
    yield* lines;
  }
}

const busy = (dir = '') =>
  new VifdError(
    'EBUSY',
    `${statusSocketPath(dir)}: vifd has closed the connection; it has too many clients, or has just ended: try again`,
  );

async function connectTo(dir: string | undefined): Promise<Socket> {
  if (dir === undefined) throw new VifdError('ENOAGENT', 'VIFD_RUN_DIR is empty, so no vifd can be asked');
  const path = statusSocketPath(dir);
  const socket = connect(path);
  try {
    await once(socket, 'connect');
  } catch (error) {
    const { code = 'EIO' } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ECONNREFUSED')
      throw new VifdError('ENOAGENT', `no vifd answers on ${path} (${code}); start vifd run, or name its VIFD_RUN_DIR`);
    throw new VifdError(code, `${path} cannot be opened (${code}); ask as root or as the user that runs vifd`);
  }
  socket.on('error', () => undefined); // the end of the lines says it
  return socket;
}
