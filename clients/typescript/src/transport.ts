import { clone, create, getOption, type DescMessage, type DescMethod, type MessageShape } from "@bufbuild/protobuf";
import { reflect } from "@bufbuild/protobuf/reflect";
import type { Transport } from "@connectrpc/connect";
import { TaskeyError } from "./errors.js";
import { scope } from "./gen/taskey/options/v1/options_pb.js";
import { methodConfig, retryDelayMs, RetryThrottle, sleep, toMs, wait } from "./policy.js";
import type { Session } from "./session.js";

/** Adds deadlines, tokens, request ids, retries and typed errors to a transport. */
export function createTaskeyTransport(inner: Transport, session?: Session): Transport {
  const throttle = new RetryThrottle();

  /** Returns the access token, unless the method is public, and the headers that contain it. */
  async function authorize(method: DescMethod, header?: HeadersInit, signal?: AbortSignal, timeoutMs?: number) {
    const headers = new Headers(header);
    if (!session || getOption(method, scope) === "public") return { headers };
    const token = await wait(session.accessToken(), signal, timeoutMs);
    headers.set("authorization", `Bearer ${token}`);
    return { headers, token };
  }

  /** Reports whether the call failed because its token has expired, and another token can be obtained. */
  function isRenewable(error: TaskeyError, token?: string): boolean {
    return error.reason === "TOKEN_EXPIRED" && token !== undefined && session?.expire(token) === true;
  }

  return {
    async unary(method, signal, timeoutMs, header, input, contextValues) {
      const config = methodConfig(method);
      const deadline = Date.now() + ((timeoutMs ?? toMs(config.timeout)) || Infinity);
      // 0 means that there is no deadline.
      const timeLeft = () => (deadline === Infinity ? 0 : Math.max(deadline - Date.now(), 1));
      const message = clone(method.input, create(method.input, input));
      const isRetryable = setRequestId(method.input, message) || config.retryPolicy !== undefined;
      let isRenewed = false;
      for (let attempt = 1; ; attempt++) {
        const { headers, token } = await authorize(method, header, signal, timeLeft());
        try {
          const response = await inner.unary(method, signal, timeLeft(), headers, message, contextValues);
          throttle.recordSuccess();
          return response;
        } catch (cause) {
          const error = TaskeyError.from(cause, signal);
          throttle.recordError(error.code);
          if (!isRenewed && isRenewable(error, token)) {
            isRenewed = true;
            attempt--;
            continue;
          }
          const delay =
            isRetryable && throttle.permitsRetry ? retryDelayMs(error, attempt, config.retryPolicy) : undefined;
          if (delay === undefined || Date.now() + delay >= deadline) throw error;
          await sleep(delay, signal);
        }
      }
    },

    async stream(method, signal, timeoutMs, header, input, contextValues) {
      const { headers, token } = await authorize(method, header, signal, timeoutMs);
      const convert = (cause: unknown) => {
        const error = TaskeyError.from(cause, signal);
        isRenewable(error, token);
        return error;
      };
      try {
        const response = await inner.stream(method, signal, timeoutMs ?? 0, headers, input, contextValues);
        return { ...response, message: convertErrors(response.message, convert) };
      } catch (cause) {
        throw convert(cause);
      }
    },
  };
}

/** Sets the `request_id` of a write if it is empty. Returns whether the message has the field. */
function setRequestId<I extends DescMessage>(schema: I, message: MessageShape<I>): boolean {
  const field = schema.fields.find((field) => field.name === "request_id");
  if (field?.fieldKind !== "scalar") return false;
  const view = reflect(schema, message);
  if (view.get(field) === "") view.set(field, crypto.randomUUID());
  return true;
}

async function* convertErrors<T>(messages: AsyncIterable<T>, convert: (cause: unknown) => TaskeyError) {
  try {
    yield* messages;
  } catch (cause) {
    throw convert(cause);
  }
}
