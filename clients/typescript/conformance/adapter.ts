/** The adapter of the conformance suite. See clients/conformance/README.md for its protocol. */
import { createInterface } from "node:readline";
import {
  createRegistry,
  fromJson,
  toJson,
  type DescMethodUnary,
  type JsonObject,
  type JsonValue,
  type Message,
} from "@bufbuild/protobuf";
import { file_taskey_auth_v1_account_service } from "../src/gen/taskey/auth/v1/account_service_pb.js";
import { file_taskey_auth_v1_admin_service } from "../src/gen/taskey/auth/v1/admin_service_pb.js";
import { file_taskey_auth_v1_auth_service } from "../src/gen/taskey/auth/v1/auth_service_pb.js";
import { file_taskey_auth_v1_personal_access_token_service } from "../src/gen/taskey/auth/v1/personal_access_token_service_pb.js";
import { file_taskey_auth_v1_token_service } from "../src/gen/taskey/auth/v1/token_service_pb.js";
import { file_taskey_task_v1_task_list_service } from "../src/gen/taskey/task/v1/task_list_service_pb.js";
import {
  file_taskey_task_v1_task_service,
  TaskChangeSchema,
  TaskListChangeSchema,
} from "../src/gen/taskey/task/v1/task_service_pb.js";
import { connect, paginate, type Taskey, type WatchEvent } from "../src/node.js";
import { errorToJson } from "./error.js";
import { verifierOperations } from "./verifiers.js";

/** The parameters of a request. */
export type Parameters = Record<string, unknown> & { id: number; op: string };
export type Operation = (parameters: Parameters, signal: AbortSignal) => Promise<JsonObject>;

interface Watch {
  events: AsyncGenerator<WatchEvent, never>;
  stop: AbortController;
}

const services = createRegistry(
  file_taskey_auth_v1_account_service,
  file_taskey_auth_v1_admin_service,
  file_taskey_auth_v1_auth_service,
  file_taskey_auth_v1_personal_access_token_service,
  file_taskey_auth_v1_token_service,
  file_taskey_task_v1_task_list_service,
  file_taskey_task_v1_task_service,
);
const clients = new Map<string, Taskey>();
const watches = new Map<string, Watch>();
const requests = new Map<number, AbortController>();

const operations: Record<string, Operation> = {
  async open(parameters) {
    const text = (name: string) => parameters[name] as string | undefined;
    const [email, password, accessToken] = [text("email"), text("password"), text("access_token")];
    const login = email !== undefined && password !== undefined ? { email, password } : undefined;
    const client = connect({
      url: `${parameters.tls ? "https" : "http"}://${String(parameters.address)}`,
      credentials: accessToken !== undefined ? { accessToken } : login,
      caFile: text("ca_file"),
      certFile: text("cert_file"),
      keyFile: text("key_file"),
    });
    clients.set(parameters.client as string, client);
    return Promise.resolve({});
  },

  async call(parameters, signal) {
    const method = unaryMethod(parameters.method as string);
    const request = fromJson(method.input, parameters.request as JsonValue);
    const timeoutMs = parameters.timeout_ms as number | undefined;
    const response = await client(parameters).transport.unary(method, signal, timeoutMs, undefined, request);
    return { response: toJson(method.output, response.message) };
  },

  async list(parameters, signal) {
    const method = unaryMethod(parameters.method as string);
    const { transport } = client(parameters);
    const list = async (request: Record<string, unknown>) =>
      (await transport.unary(method, signal, undefined, undefined, request)).message;
    const item = method.output.fields.find((field) => field.fieldKind === "list")?.message;
    if (item === undefined) throw new Error(`${method.name} does not return a list of messages`);
    const items = [];
    const pages = paginate(list, fromJson(method.input, parameters.request as JsonValue)) as AsyncIterable<Message>;
    for await (const message of pages) items.push(toJson(item, message));
    return { items };
  },

  async watch(parameters) {
    const stop = new AbortController();
    const syncToken = parameters.sync_token as string | undefined;
    const events = client(parameters).watchTasks({ syncToken, signal: stop.signal });
    watches.set(parameters.watch as string, { events, stop });
    return Promise.resolve({});
  },

  async next(parameters) {
    const { value } = await watch(parameters).events.next();
    return {
      reset: value.reset,
      changes: value.changes.map((change) => toJson(TaskChangeSchema, change)),
      list_changes: value.listChanges.map((change) => toJson(TaskListChangeSchema, change)),
      sync_token: value.syncToken,
      checkpoint: value.checkpoint,
    };
  },

  async stop(parameters) {
    const { events, stop } = watch(parameters);
    watches.delete(parameters.watch as string);
    stop.abort();
    // A watch that has not begun ends here, and another one has thrown its error.
    await events.return(undefined as never).catch(() => undefined);
    return {};
  },

  async cancel(parameters) {
    requests.get(parameters.request as number)?.abort();
    return Promise.resolve({});
  },

  async token(parameters) {
    return { access_token: (await client(parameters).accessToken()) ?? "" };
  },

  async logout(parameters) {
    await client(parameters).logout();
    return {};
  },

  async close(parameters) {
    client(parameters).close();
    clients.delete(parameters.client as string);
    return Promise.resolve({});
  },

  ...verifierOperations,
};

function client(parameters: Parameters): Taskey {
  const client = clients.get(parameters.client as string);
  if (client === undefined) throw new Error(`there is no client ${String(parameters.client)}`);
  return client;
}

function watch(parameters: Parameters): Watch {
  const watch = watches.get(parameters.watch as string);
  if (watch === undefined) throw new Error(`there is no watch ${String(parameters.watch)}`);
  return watch;
}

function unaryMethod(path: string): DescMethodUnary {
  const [service = "", name] = path.split("/");
  const method = services.getService(service)?.methods.find((method) => method.name === name);
  if (method?.methodKind !== "unary") throw new Error(`there is no unary method ${path}`);
  return method as DescMethodUnary;
}

async function handle(line: string): Promise<void> {
  const parameters = JSON.parse(line) as Parameters;
  const { id, op } = parameters;
  const abort = new AbortController();
  requests.set(id, abort);
  let answer: JsonObject;
  try {
    const operation = operations[op];
    if (operation === undefined) throw new Error(`there is no operation ${op}`);
    answer = { id, ok: await operation(parameters, abort.signal) };
  } catch (error) {
    answer = { id, error: errorToJson(error) };
  }
  requests.delete(id);
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}

createInterface({ input: process.stdin })
  .on("line", (line) => void handle(line))
  .on("close", () => process.exit());
