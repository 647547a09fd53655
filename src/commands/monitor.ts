export async function monitor(_options?: unknown): Promise<void> {}
