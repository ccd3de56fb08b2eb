/** The members of a JSON object, as the JSON texts of their values. */
export interface Members {
  values: Map<string, string>;
  hasOthers: boolean;
}

const TOKENS = /"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g;

/**
 * Parses a JSON object strictly. `JSON.parse` alone accepts duplicate members, and does not distinguish `1` from `1.0`.
 *
 * @throws if the text is not a JSON object in UTF-8, or a member in `names` is duplicated.
 */
export function parseObject(bytes: Uint8Array, names: string[]): Members {
  const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  JSON.parse(text);
  if (!text.startsWith("{")) throw new SyntaxError("not a JSON object");
  const members: Members = { values: new Map(), hasOthers: false };
  let depth = 0;
  let name: string | undefined;
  let start = 0;
  // The syntax is valid, so only the nesting has to be tracked.
  for (const { 0: token, index } of text.matchAll(TOKENS)) {
    if (token === "}" || token === "]") depth--;
    if (name !== undefined && ((depth === 1 && token === ",") || depth === 0)) {
      if (!names.includes(name)) members.hasOthers = true;
      else if (members.values.has(name)) throw new SyntaxError("a member is duplicated");
      else members.values.set(name, text.slice(start, index).trim());
      name = undefined;
    } else if (depth === 1 && name === undefined && token.startsWith('"')) {
      name = JSON.parse(token) as string;
    } else if (depth === 1 && token === ":") {
      start = index + 1;
    }
    if (token === "{" || token === "[") depth++;
  }
  return members;
}

/** Parses a string without lone surrogates. */
export function parseString(json = "null"): string {
  const value: unknown = JSON.parse(json);
  if (typeof value !== "string" || !value.isWellFormed()) throw new SyntaxError("not a string");
  return value;
}

/** Parses a signed 64-bit integer that is written as such, not as `1.0` or `1e0`. */
export function parseInteger(json = "null"): number {
  if (!/^(0|-?[1-9]\d*)$/.test(json) || BigInt.asIntN(64, BigInt(json)) !== BigInt(json)) {
    throw new SyntaxError("not an integer");
  }
  return Number(json);
}
