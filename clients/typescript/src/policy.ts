import type { DescMethod } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { TaskeyError } from "./errors.js";
import config from "./gen/service_config.js";

interface MethodConfig {
  name: { service: string; method?: string }[];
  timeout?: string;
  retryPolicy?: { maxAttempts: number; initialBackoff: string; maxBackoff: string; backoffMultiplier: number };
}
const METHODS: MethodConfig[] = config.methodConfig;
const THROTTLING = config.retryThrottling;

/** The retry policy of writes with a `request_id`, and of the delays between streams: that of the reads. */
const POLICY = METHODS.flatMap((entry) => entry.retryPolicy ?? [])[0]!;

/** Returns the configuration of a method: that of its name, or else that of its service. */
export function methodConfig(method: DescMethod): Omit<MethodConfig, "name"> {
  const find = (name?: string) =>
    METHODS.find((entry) => entry.name.some((n) => n.service === method.parent.typeName && n.method === name));
  return find(method.name) ?? find() ?? {};
}

/** Converts a duration such as `0.1s` to milliseconds. */
export function toMs(duration = "0s"): number {
  return Number.parseFloat(duration) * 1000;
}

/** Returns the delay before a retry, with jitter. The first attempt has the number 1. */
export function backoffMs(attempt: number, policy = POLICY): number {
  const delay = toMs(policy.initialBackoff) * policy.backoffMultiplier ** (attempt - 1);
  return Math.min(delay, toMs(policy.maxBackoff)) * (0.8 + 0.4 * Math.random());
}

/** Returns the delay before a retry, or undefined if the call must not be retried. */
export function retryDelayMs(error: TaskeyError, attempt: number, policy = POLICY): number | undefined {
  const pushback = error.metadata.get("grpc-retry-pushback-ms");
  if (attempt >= policy.maxAttempts || (pushback !== null && !/^\d+$/.test(pushback))) return undefined;
  const hint = pushback === null ? error.retryAfterMs : Number(pushback);
  if (error.code === Code.Unavailable) return hint ?? backoffMs(attempt, policy);
  return error.code === Code.ResourceExhausted && error.retryAfterMs !== undefined ? hint : undefined;
}

/** Limits retries while most calls fail, as gRFC A6 describes. */
export class RetryThrottle {
  #tokens = THROTTLING.maxTokens;

  /** Reports whether calls can be retried. */
  get permitsRetry(): boolean {
    return this.#tokens > THROTTLING.maxTokens / 2;
  }

  recordSuccess(): void {
    this.#tokens = Math.min(this.#tokens + THROTTLING.tokenRatio, THROTTLING.maxTokens);
  }

  recordError(code: Code): void {
    if (code === Code.Unavailable) this.#tokens = Math.max(this.#tokens - 1, 0);
  }
}

/** Waits for a promise until the signal is aborted or the timeout, unless it is 0, has passed. */
export function wait<T>(promise: Promise<T>, signal?: AbortSignal, timeoutMs = 0): Promise<T> {
  return new Promise((resolve, reject) => {
    const fail = (cause: unknown) => reject(TaskeyError.from(cause, signal));
    const abort = () => fail(new ConnectError("the call was cancelled", Code.Canceled));
    const expire = () => fail(new ConnectError("the deadline has passed", Code.DeadlineExceeded));
    const timer = timeoutMs > 0 ? setTimeout(expire, timeoutMs) : undefined;
    if (signal?.aborted) abort();
    signal?.addEventListener("abort", abort, { once: true });
    const release = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
    };
    promise.finally(release).then(resolve, fail);
  });
}

/** Waits for a delay, or until the signal is aborted. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return wait(new Promise<void>((resolve) => setTimeout(resolve, ms)), signal);
}
