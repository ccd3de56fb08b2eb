import type { Operation } from "./adapter.js";

/** The operations of verifiers. */
export const verifierOperations: Record<string, Operation> = {};
