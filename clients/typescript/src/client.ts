import { createClient, type Transport } from "@connectrpc/connect";
import { AccountService } from "./gen/taskey/auth/v1/account_service_pb.js";
import { AdminService } from "./gen/taskey/auth/v1/admin_service_pb.js";
import { AuthService } from "./gen/taskey/auth/v1/auth_service_pb.js";
import { PersonalAccessTokenService } from "./gen/taskey/auth/v1/personal_access_token_service_pb.js";
import { TokenService } from "./gen/taskey/auth/v1/token_service_pb.js";
import { TaskListService } from "./gen/taskey/task/v1/task_list_service_pb.js";
import { TaskService } from "./gen/taskey/task/v1/task_service_pb.js";
import { Session, type Credentials } from "./session.js";
import { createTaskeyTransport } from "./transport.js";
import { watchTasks } from "./watch.js";

export { Code } from "@connectrpc/connect";
export { TaskeyError } from "./errors.js";
export { paginate } from "./pages.js";
export type { Credentials } from "./session.js";
export type { WatchEvent } from "./watch.js";

/** A client of Taskey. Created by `connect`. */
export type Taskey = ReturnType<typeof createTaskey>;

/** Creates a client that calls through `transport`. */
export function createTaskey(transport: Transport, credentials?: Credentials, close: () => void = () => undefined) {
  const session = credentials && new Session(createTaskeyTransport(transport), credentials);
  const authenticated = createTaskeyTransport(transport, session);
  const tasks = createClient(TaskService, authenticated);
  return {
    auth: createClient(AuthService, authenticated),
    account: createClient(AccountService, authenticated),
    admin: createClient(AdminService, authenticated),
    personalAccessTokens: createClient(PersonalAccessTokenService, authenticated),
    tokens: createClient(TokenService, authenticated),
    tasks,
    taskLists: createClient(TaskListService, authenticated),
    /** The transport of these clients, for other services. */
    transport: authenticated,
    /** Watches the tasks. See `watchTasks`. */
    watchTasks: (options?: Parameters<typeof watchTasks>[1]) => watchTasks(tasks, options),
    /** Returns the current access token, after a login or refresh if necessary. Undefined without credentials. */
    accessToken: async () => session?.accessToken(),
    /** Revokes the session and forgets its tokens. A later call logs in again. */
    logout: async () => session?.logout(),
    /** Closes the connections. Calls in progress fail. */
    close,
  };
}
