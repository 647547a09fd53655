/**
 * Preloaded (`node --import`) into `vifd run`: counts what the agent does to the world, and strikes right after one of
 * these effects. VIFD_CRASH is the plan: {at, strike, counts, xenstore, report}. All effects are written to `report`.
 * - at: strike at this effect, from 1; 0: never.
 * - strike: a signal for the agent itself, or `child`: SIGKILL for the child that the effect is about.
 * - counts: `changes`, or `all`: also questions to xenstore and the kernel, and when a child that is only asked begins and ends.
 */
import childProcess from 'node:child_process';
import fs from 'node:fs';
import { createRequire, syncBuiltinESMExports } from 'node:module';
import net from 'node:net';

const plan = JSON.parse(process.env.VIFD_CRASH);
for (const name of ['VIFD_CRASH', 'NODE_OPTIONS']) delete process.env[name]; // not for its children
let count = 0;

function effect(what, child) {
  if (plan.strike === 'child' && child === undefined) return;
  count++;
  fs.appendFileSync(plan.report, `${count} ${what}\n`);
  if (count !== plan.at) return;
  const since = performance.now();
  process.once('exit', () =>
    fs.appendFileSync(plan.report, `ended after ${Math.round(performance.now() - since)} ms\n`),
  );
  if (plan.strike === 'child') child.kill('SIGKILL');
  else kill.call(process, process.pid, plan.strike);
}

const question = (what, child) => {
  if (plan.counts === 'all') effect(what, child);
};

/** enum xsd_sockmsg_type of what changes something. A transaction that only begins is none. */
const STORE_CHANGES = new Map(
  Object.entries({ 4: 'WATCH', 5: 'UNWATCH', 7: 'TRANSACTION_END', 11: 'WRITE', 12: 'MKDIR', 13: 'RM' }),
);

function storeRequest(bytes) {
  const type = bytes[0];
  const text = Buffer.from(bytes.subarray(16)).toString('latin1').replaceAll('\0', ' ');
  const change = STORE_CHANGES.get(String(type));
  if (change === undefined) question(`xenstore request ${type} ${text}`);
  else effect(`xenstore ${change} ${text}`);
}

const connect = net.connect;
net.connect = (...args) => {
  const socket = connect(...args);
  if ((args[0]?.path ?? args[0]) !== plan.xenstore) return socket;
  const write = socket.write;
  socket.write = (...words) => {
    const more = write.apply(socket, words); // a unix socket takes it at once
    storeRequest(words[0]);
    return more;
  };
  return socket;
};

const NETLINK_NETFILTER = 12;
const NETLINK_GENERIC = 16;
const GENL_ID_CTRL = 16;
const ETHTOOL_MSG_FEATURES_SET = 12;

/** RTM_GETxxx are the third of each four (linux/rtnetlink.h). */
function isNetlinkChange(protocol, type, command) {
  if (protocol === NETLINK_NETFILTER) return false; // rules are nft's matter
  if (protocol === NETLINK_GENERIC) return type !== GENL_ID_CTRL && command === ETHTOOL_MSG_FEATURES_SET;
  return type % 4 !== 2;
}

const netlink = createRequire(import.meta.url)('netlink/dist/raw.js');
netlink.RawNetlinkSocket = class extends netlink.RawNetlinkSocket {
  constructor(protocol, options) {
    super(protocol, options);
    this.protocol = protocol;
  }

  send(message, options, callback) {
    const type = message.readUInt16LE(4);
    const tell = isNetlinkChange(this.protocol, type, message[16]) ? effect : question;
    super.send(message, options, (error) => {
      tell(`netlink protocol ${this.protocol} type ${type}`); // sent means done
      callback?.(error);
    });
  }
};

/** What nft changes stands in its input. */
const asksOnly = (program, args) => program === 'nft' || (program === 'ovs-vsctl' && args.includes('list'));

const spawn = childProcess.spawn;
childProcess.spawn = (program, args, options) => {
  const child = spawn(program, args, options);
  const name = [program, ...(Array.isArray(args) ? args : [])].join(' ');
  const tell = asksOnly(program, args) ? question : effect;
  tell(`start of ${name}`, child);
  child.once('exit', () => plan.strike !== 'child' && tell(`end of ${name}`));
  const signal = child.kill;
  child.kill = (name) => {
    const done = signal.call(child, name);
    if (plan.strike !== 'child') effect(`${name} for ${program}`);
    return done;
  };
  if (child.stdin) {
    const end = child.stdin.end;
    child.stdin.end = (...words) => {
      end.apply(child.stdin, words);
      if (words[0]) effect(`input of ${name}: ${String(words[0]).replaceAll('\n', '; ')}`, child);
    };
  }
  return child;
};

const { kill } = process;
process.kill = (pid, signal) => {
  const done = kill.call(process, pid, signal);
  if (signal !== 0) effect(`${signal} for process ${pid < 0 ? 'group' : ''}`);
  return done;
};

for (const name of ['writeFile', 'rename', 'rm', 'mkdir']) {
  const original = fs.promises[name];
  fs.promises[name] = async (...args) => {
    const result = await original(...args);
    effect(`${name} ${args[0]}`);
    return result;
  };
}
syncBuiltinESMExports();
