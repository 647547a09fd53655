/**
 * What stands between the agent and xenstored and can fail: it ends and comes again, before the same tree or another; it loses
 * events; or it is the connection of a domain that has been moved, whose kernel registers its watches anew.
 */
import { rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { encodePacket, type Packet, Parser, XS } from '../../src/xenstore/wire.js';
import { scratch } from './recovery.js';

/** Ids of requests that are its own. */
const OWN_ID = 0xfff0_0000;

export class StoreBetween {
  readonly path = join(scratch(), 'xenstore');
  losesEvents = false;
  private server: Server | undefined;
  private readonly lines = new Set<Line>();
  constructor(public target: string) {
    onTestFinished(() => this.stop());
  }

  async start(target = this.target): Promise<this> {
    this.target = target;
    this.server = createServer((agent) => this.lines.add(new Line(this, agent)));
    await new Promise<void>((resolve) => this.server?.listen(this.path, resolve));
    return this;
  }

  /** As xenstored ends: its connections, and its socket. */
  stop(): void {
    this.server?.close();
    for (const line of this.lines) line.end();
    this.lines.clear();
    rmSync(this.path, { force: true });
  }

  /** Suspend and resume, or migration: the agent's connection goes on, and leads there. */
  move(target: string): void {
    this.target = target;
    for (const line of this.lines) line.lead();
  }
}

class Line {
  private readonly watches: Packet[] = [];
  private store: Socket | undefined;
  constructor(
    private readonly between: StoreBetween,
    private readonly agent: Socket,
  ) {
    const parser = new Parser('agent');
    agent.on('data', (bytes) => {
      for (const packet of parser.push(bytes)) {
        if (packet.type === XS.WATCH) this.watches.push({ ...packet, reqId: OWN_ID + this.watches.length });
        this.store?.write(encodePacket(packet));
      }
    });
    agent.on('error', () => undefined);
    agent.on('close', () => this.store?.destroy());
    this.lead();
  }

  lead(): void {
    this.store?.removeAllListeners('close').destroy();
    const store = connect(this.between.target);
    this.store = store;
    const parser = new Parser('store');
    for (const watch of this.watches) store.write(encodePacket(watch));
    store.on('data', (bytes) => {
      for (const packet of parser.push(bytes)) this.forward(packet);
    });
    store.on('error', () => undefined);
    store.on('close', () => this.agent.destroy());
  }

  end(): void {
    this.store?.destroy();
    this.agent.destroy();
  }

  private forward(packet: Packet): void {
    if (packet.type === XS.WATCH_EVENT ? this.between.losesEvents : packet.reqId >= OWN_ID) return;
    this.agent.write(encodePacket(packet));
  }
}
