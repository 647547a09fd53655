/** One emulated computer: QEMU with Xen on it, its console in a file, and a control channel into dom0. */
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/**
 * -cpu and the thread model: anything newer or parallel makes domains crash under TCG (shared/xen-lab.md). -icount: the
 * domains' clock counts instructions, 500 million a second, so that a slow or busy host stretches libxl's ten seconds
 * together with all the rest; without it `xl destroy` of 16 vifs failed now and then for want of CPU alone.
 */
const QEMU =
  '-accel tcg,thread=single -icount shift=1 -smp 1 -cpu Nehalem,-smap,-smep -m 4096 -display none -monitor none -no-reboot -net none';
const XEN =
  'console=com1 com1=115200 dom0_mem=1792M dom0_max_vcpus=1 noreboot spec-ctrl=no xpti=0 pv-l1tf=0 loglvl=info';
const LINUX = 'console=hvc0 rdinit=/init quiet mitigations=off';

export interface MachineFiles {
  readonly xen: string;
  readonly vmlinuz: string;
  readonly initramfs: string;
  /** Becomes dom0's /dev/vda; what is written to it is forgotten at the end. */
  readonly disk?: string;
}

/** Seconds of the host in a second of the domains, at the worst: for all time-outs on this side. */
export const DILATION = 4;

export interface Result {
  readonly code: number;
  readonly out: string;
}

interface Waiter {
  resolve(result: Result): void;
  reject(error: Error): void;
}

export class Machine {
  private readonly waiting = new Map<string, Waiter>();
  private exited: string | undefined;
  private buffer = '';
  private lastId = 0;
  private queue: Promise<unknown> = Promise.resolve();
  private channel: Socket | undefined;

  private constructor(
    private readonly dir: string,
    private readonly qemu: ChildProcess,
  ) {
    qemu.on('exit', (code, signal) => {
      this.exited = `QEMU ended (${signal ?? code})`;
      for (const waiter of this.waiting.values()) waiter.reject(this.failure(this.exited ?? ''));
    });
  }

  /** Starts the computer; `words` come to dom0's init as environment variables. Does not wait for anything inside. */
  static async start(dir: string, files: MachineFiles, words: string): Promise<Machine> {
    const socket = join(dir, 'control.sock');
    const args = [
      ...QEMU.split(' '),
      ...['-serial', `file:${join(dir, 'console.log')}`],
      ...['-device', 'virtio-serial-pci', '-chardev', `socket,id=lab,path=${socket},server=on,wait=off`],
      ...['-device', 'virtserialport,chardev=lab,name=lab.dom0'],
      ...(files.disk ? ['-drive', `file=${files.disk},if=virtio,format=raw,snapshot=on`] : []),
      ...['-kernel', files.xen, '-append', XEN, '-initrd', `${files.vmlinuz} ${LINUX} ${words},${files.initramfs}`],
    ];
    writeFileSync(join(dir, 'console.log'), '');
    // With the test runner gone, however it ended, the emulated computer goes too.
    const command = ['--pdeathsig', 'KILL', 'qemu-system-x86_64', ...args];
    const machine = new Machine(dir, spawn('setpriv', command, { stdio: ['ignore', 'inherit', 'inherit'] }));
    await machine.openChannel(socket);
    return machine;
  }

  get console(): string {
    return readFileSync(join(this.dir, 'console.log'), 'latin1');
  }

  /**
   * Runs a bash command in dom0; output is stdout and stderr together. One at a time, in the order of the calls.
   * Code 124: the command took longer than `timeoutMs`, counted in dom0. Rejects when the machine is gone or mute.
   */
  run(command: string, timeoutMs: number): Promise<Result> {
    const result = this.queue.then(() => this.send(command, timeoutMs));
    this.queue = result.catch(() => {});
    return result;
  }

  /** Power off from inside; killed if it does not. */
  async stop(): Promise<void> {
    if (this.exited === undefined) {
      this.channel?.write(requestLine('off', 5, 'echo o > /proc/sysrq-trigger; sleep 20'));
      for (let i = 0; i < 200 && this.exited === undefined; i++) await sleep(100);
    }
    if (this.exited === undefined) this.qemu.kill('SIGKILL');
    this.channel?.destroy();
  }

  private async send(command: string, timeoutMs: number): Promise<Result> {
    if (this.exited !== undefined) throw this.failure(this.exited);
    const id = String(++this.lastId);
    const answer = new Promise<Result>((resolve, reject) => this.waiting.set(id, { resolve, reject }));
    this.channel?.write(requestLine(id, Math.ceil(timeoutMs / 1000), command));
    // Inside `timeout` ends the command; only a dead dom0 gives no answer at all.
    const muteMs = (timeoutMs + 20_000) * DILATION;
    const mute = setTimeout(() => {
      this.waiting.get(id)?.reject(this.failure(`dom0 gave no answer within ${muteMs} ms to: ${command}`));
    }, muteMs);
    return answer.finally(() => {
      clearTimeout(mute);
      this.waiting.delete(id);
    });
  }

  private async openChannel(path: string): Promise<void> {
    for (let attempt = 0; ; attempt++) {
      if (this.exited !== undefined) throw this.failure(this.exited);
      const channel = connect(path);
      const opened = await new Promise<boolean>((resolve) => {
        channel.once('connect', () => resolve(true));
        channel.once('error', () => resolve(false));
      });
      if (opened) {
        this.channel = channel;
        channel.on('data', (chunk) => this.receive(chunk.toString('latin1')));
        channel.on('error', () => {});
        return;
      }
      if (attempt > 100) throw this.failure('QEMU did not open the control channel');
      await sleep(50);
    }
  }

  private receive(text: string): void {
    const lines = (this.buffer + text).split('\n');
    this.buffer = lines.pop() ?? '';
    for (const line of lines) {
      const answer = parseAnswer(line);
      if (answer) this.waiting.get(answer.id)?.resolve(answer);
    }
  }

  private failure(reason: string): Error {
    return new Error(`${reason}\nend of the console (${join(this.dir, 'console.log')}):\n${this.console.slice(-2000)}`);
  }
}

/** The control protocol of guest/control. */
export function requestLine(id: string, seconds: number, command: string): string {
  return `${id} ${seconds} ${Buffer.from(command).toString('base64')}\n`;
}

export function parseAnswer(line: string): (Result & { id: string }) | undefined {
  const match = /^@(\S+) (\d+) ?(\S*)/.exec(line);
  if (!match) return undefined;
  const [, id = '', code, out = ''] = match;
  return { id, code: Number(code), out: Buffer.from(out, 'base64').toString() };
}
