export async function demo(_options?: unknown): Promise<void> {}
