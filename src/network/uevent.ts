/** What the kernel tells of devices (lib/kobject_uevent.c). Pure. */

/** `online@/devices/vif-5-0` and its environment. */
export interface Uevent {
  readonly action: string;
  readonly devpath: string;
  readonly env: Readonly<Record<string, string>>;
}

/** Undefined for what the kernel does not send, such as systemd-udevd's own messages. */
export function parseUevent(bytes: Uint8Array): Uevent | undefined {
  const [head = '', ...lines] = new TextDecoder('latin1').decode(bytes).split('\0');
  const [, action, devpath] = /^([a-z]+)@(\/.*)$/s.exec(head) ?? [];
  if (action === undefined || devpath === undefined) return undefined;
  const pairs = lines
    .filter((line) => line.indexOf('=') > 0)
    .map((line): [string, string] => {
      const at = line.indexOf('=');
      return [line.slice(0, at), line.slice(at + 1)];
    });
  return { action, devpath, env: Object.fromEntries(pairs) };
}
