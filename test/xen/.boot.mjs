// ../../tmp/boot3.ts
import { mkdtempSync } from "node:fs";

// test/xen/image.ts
import { chmodSync, copyFileSync, cpSync, createReadStream, createWriteStream, mkdirSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { execa } from "execa";
var here = dirname(fileURLToPath(import.meta.url));
var project = join(here, "../..");
async function baseImage() {
  const { stdout } = await execa(join(here, "build.sh"), { env: { NODE: process.execPath } });
  return stdout.trim();
}
async function makeImage(dir2, programs) {
  const base = await baseImage();
  const system = join(dir2, "system");
  await stageSystem(system, programs);
  const nicdom = join(dir2, "nicdom");
  cpSync(system, nicdom, { recursive: true });
  install("nicdom-init", join(nicdom, "init"));
  const client = join(dir2, "client");
  install("client-init", join(client, "init"));
  install("client-reboot", join(client, "sbin/reboot"));
  install("client-poweroff", join(client, "sbin/poweroff"));
  install("dom0-init", join(system, "init"));
  install("nicdom-run", join(system, "lab/nicdom-run"));
  mkdirSync(join(system, "guests"));
  copyFileSync(join(here, "guest/nicdom.cfg"), join(system, "guests/nicdom.cfg"));
  await pack(nicdom, join(system, "guests/nicdom-overlay.cpio"));
  await pack(client, join(system, "guests/client-overlay.cpio"));
  const overlay = join(dir2, "dom0-overlay.cpio");
  await pack(system, overlay);
  return {
    xen: join(base, "xen"),
    vmlinuz: join(base, "vmlinuz"),
    initramfs: [join(base, "system.cpio"), join(base, "guests.cpio"), overlay]
  };
}
async function stageSystem(root, programs) {
  const vifd = join(root, "opt/vifd");
  for (const part of ["dist", "package.json", "node_modules/netlink", "node_modules/node-gyp-build"])
    cpSync(join(project, part), join(vifd, part), { recursive: true });
  install("vifd-wrapper", join(root, "usr/sbin/vifd"));
  install("control", join(root, "lab/control"));
  install("agent-start", join(root, "lab/agent-start"));
  for (const program of programs) {
    await build({
      entryPoints: [program],
      outfile: join(root, "lab", `${basename(program).replace(/\.\w+$/, "")}.mjs`),
      bundle: true,
      platform: "node",
      format: "esm",
      target: "node20",
      logLevel: "warning",
      external: ["netlink", "pino-pretty", "vitest"],
      banner: {
        js: "import { createRequire as labCreateRequire } from 'node:module'; const require = labCreateRequire(import.meta.url);"
      }
    });
  }
}
function install(name, to) {
  mkdirSync(dirname(to), { recursive: true });
  copyFileSync(join(here, "guest", name), to);
  chmodSync(to, 493);
}
async function pack(tree, file) {
  const { stdout } = await execa("find", [".", "-mindepth", "1", "-printf", "%P\\n"], { cwd: tree });
  const names = stdout.split("\n").sort().join("\n");
  await execa("cpio", ["-o", "-H", "newc", "-R", "0:0", "--quiet"], { cwd: tree, input: names, stdout: { file }, buffer: false });
}
async function joinInitramfs(image2, file) {
  for (const part of image2.initramfs) await pipeline(createReadStream(part), createWriteStream(file, { flags: "a" }));
}

// test/xen/machine.ts
import { spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join as join2 } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
var QEMU = "-accel tcg,thread=single -smp 1 -cpu Nehalem,-smap,-smep -m 4096 -display none -monitor none -no-reboot -net none";
var XEN = "console=com1 com1=115200 dom0_mem=1792M dom0_max_vcpus=1 noreboot spec-ctrl=no xpti=0 pv-l1tf=0 loglvl=info";
var LINUX = "console=hvc0 rdinit=/init quiet mitigations=off";
var Machine = class _Machine {
  constructor(dir2, qemu) {
    this.dir = dir2;
    this.qemu = qemu;
    qemu.on("exit", (code, signal) => {
      this.exited = `QEMU ended (${signal ?? code})`;
      for (const waiter of this.waiting.values()) waiter.reject(this.failure(this.exited ?? ""));
    });
  }
  dir;
  qemu;
  waiting = /* @__PURE__ */ new Map();
  exited;
  buffer = "";
  lastId = 0;
  queue = Promise.resolve();
  channel;
  /** Starts the computer; `words` come to dom0's init as environment variables. Does not wait for anything inside. */
  static async start(dir2, files, words) {
    const socket = join2(dir2, "control.sock");
    const args = [
      ...QEMU.split(" "),
      ...["-serial", `file:${join2(dir2, "console.log")}`],
      ...["-device", "virtio-serial-pci", "-chardev", `socket,id=lab,path=${socket},server=on,wait=off`],
      ...["-device", "virtserialport,chardev=lab,name=lab.dom0"],
      ...["-kernel", files.xen, "-append", XEN, "-initrd", `${files.vmlinuz} ${LINUX} ${words},${files.initramfs}`]
    ];
    writeFileSync(join2(dir2, "console.log"), "");
    const machine = new _Machine(dir2, spawn("qemu-system-x86_64", args, { stdio: ["ignore", "inherit", "inherit"] }));
    await machine.openChannel(socket);
    return machine;
  }
  get console() {
    return readFileSync(join2(this.dir, "console.log"), "latin1");
  }
  /**
   * Runs a bash command in dom0; output is stdout and stderr together. One at a time, in the order of the calls.
   * Code 124: the command took longer than `timeoutMs`, counted in dom0. Rejects when the machine is gone or mute.
   */
  run(command, timeoutMs) {
    const result = this.queue.then(() => this.send(command, timeoutMs));
    this.queue = result.catch(() => {
    });
    return result;
  }
  /** Power off from inside; killed if it does not. */
  async stop() {
    if (this.exited === void 0) {
      this.channel?.write(requestLine("off", 5, "echo o > /proc/sysrq-trigger; sleep 20"));
      for (let i = 0; i < 100 && this.exited === void 0; i++) await sleep(100);
    }
    if (this.exited === void 0) this.qemu.kill("SIGKILL");
    this.channel?.destroy();
  }
  async send(command, timeoutMs) {
    if (this.exited !== void 0) throw this.failure(this.exited);
    const id = String(++this.lastId);
    const answer = new Promise((resolve, reject) => this.waiting.set(id, { resolve, reject }));
    this.channel?.write(requestLine(id, Math.ceil(timeoutMs / 1e3), command));
    const mute = setTimeout(() => {
      this.waiting.get(id)?.reject(this.failure(`dom0 gave no answer within ${timeoutMs + 3e4} ms to: ${command}`));
    }, timeoutMs + 3e4);
    return answer.finally(() => {
      clearTimeout(mute);
      this.waiting.delete(id);
    });
  }
  async openChannel(path) {
    for (let attempt = 0; ; attempt++) {
      if (this.exited !== void 0) throw this.failure(this.exited);
      const channel = connect(path);
      const opened = await new Promise((resolve) => {
        channel.once("connect", () => resolve(true));
        channel.once("error", () => resolve(false));
      });
      if (opened) {
        this.channel = channel;
        channel.on("data", (chunk) => this.receive(chunk.toString("latin1")));
        channel.on("error", () => {
        });
        return;
      }
      if (attempt > 100) throw this.failure("QEMU did not open the control channel");
      await sleep(50);
    }
  }
  receive(text) {
    const lines = (this.buffer + text).split("\n");
    this.buffer = lines.pop() ?? "";
    for (const line of lines) {
      const answer = parseAnswer(line);
      if (answer) this.waiting.get(answer.id)?.resolve(answer);
    }
  }
  failure(reason) {
    return new Error(`${reason}
end of the console (${join2(this.dir, "console.log")}):
${this.console.slice(-2e3)}`);
  }
};
function requestLine(id, seconds, command) {
  return `${id} ${seconds} ${Buffer.from(command).toString("base64")}
`;
}
function parseAnswer(line) {
  const match = /^@(\S+) (\d+) ?(\S*)/.exec(line);
  if (!match) return void 0;
  const [, id = "", code, out = ""] = match;
  return { id, code: Number(code), out: Buffer.from(out, "base64").toString() };
}

// ../../tmp/boot3.ts
var dir = mkdtempSync("/tmp/lab-");
console.log(dir);
var t0 = Date.now();
var t = () => ((Date.now() - t0) / 1e3).toFixed(1);
var image = await makeImage(dir, []);
await joinInitramfs(image, dir + "/initramfs.cpio");
console.log(t(), "image");
var m = await Machine.start(dir, { xen: image.xen, vmlinuz: image.vmlinuz, initramfs: dir + "/initramfs.cpio" }, "lab_xenstored=oxenstored lab_agent=vifd");
try {
  console.log(await m.run("xl list; free -m; df -h /", 12e4));
  console.log(t());
  const nic = async (c, s = 60) => {
    const id = "n" + Date.now();
    const r = await m.run(`/lab/nicdom-run ${id} ${s} ${Buffer.from(c).toString("base64")}`, (s + 40) * 1e3);
    console.log(t(), r.code, Buffer.from(r.out.split(" ")[2] ?? "", "base64").toString() || r.out);
  };
  await nic(" free -m; ps ax | grep node; cat /var/log/vifd.log");
  console.log(await m.run(`cat > /guests/c1.cfg <<X
name="c1"
type="pv"
kernel="/guests/vmlinuz"
ramdisk="/guests/client.cpio"
memory=96
vcpus=1
extra="console=hvc0 rdinit=/init quiet lab_ip=10.77.0.11"
vif=['mac=00:16:3e:00:00:11,bridge=br0,backend=nicdom']
X
time xl create /guests/c1.cfg`, 12e4));
  console.log(t());
  for (let i = 0; i < 20; i++) {
    const r = await m.run("tail -c 300 /var/log/xen/console/guest-c1.log", 1e4);
    if (/ping ok/.test(r.out)) {
      console.log(r.out);
      break;
    }
    await new Promise((r2) => setTimeout(r2, 2e3));
  }
  console.log(t());
  await nic("ip link show; ethtool -k vif2.0 | grep tx-check; cat /var/log/vifd.log");
  console.log(await m.run("xl list; xenstore-ls -p /local/domain/1/backend", 2e4));
} finally {
  await m.stop();
  console.log(t(), "off");
}
