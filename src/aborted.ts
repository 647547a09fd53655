/** Resolves when the signal comes; at once if it came while nobody listened. */
export function aborted(signal: AbortSignal): Promise<undefined> {
  const known = endings.get(signal);
  if (known !== undefined) return known;
  const ending = new Promise<undefined>((resolve) => {
    if (signal.aborted) return resolve(undefined);
    signal.addEventListener('abort', () => resolve(undefined), { once: true });
  });
  endings.set(signal, ending);
  return ending;
}

/** Each session asks several times, and there may be many: one listener does for all. */
const endings = new WeakMap<AbortSignal, Promise<undefined>>();
