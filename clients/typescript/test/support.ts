import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { connect as connectSocket, createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { connect, type Credentials, type Taskey } from "../src/node.js";

const PROGRAM =
  process.env.TASKEY_PROGRAM ?? fileURLToPath(new URL("../../../../target/debug/taskey", import.meta.url));

export const PASSWORD = "correct horse battery staple";

/** A `taskey` process with its own databases. */
export class TestServer {
  readonly folder = mkdtempSync(join(tmpdir(), "taskey-typescript-"));
  readonly addresses = new Map<string, string>();
  #process: ChildProcess | undefined;

  constructor(readonly args: string[] = []) {}

  static async start(...args: string[]): Promise<TestServer> {
    const server = new TestServer(args);
    await server.start();
    return server;
  }

  /** Starts the process, again at the same addresses. */
  async start(): Promise<void> {
    assert(existsSync(PROGRAM), `${PROGRAM} is missing: run \`cargo build\`, or set TASKEY_PROGRAM`);
    const listen = ["auth", "task", "gateway"].flatMap((name) => [
      `--${name}-listen`,
      this.addresses.get(name) ?? "127.0.0.1:0",
    ]);
    const args = ["--data-dir", this.folder, "--rate-limits", "off", ...listen, ...this.args];
    const child = spawn(PROGRAM, args, { stdio: ["ignore", "pipe", "ignore"] });
    this.#process = child;
    const lines = createInterface({ input: child.stdout });
    for await (const line of lines) {
      const [, name, address] = /^listening (\S+) (\S+)$/.exec(line) ?? [];
      if (name !== undefined && address !== undefined) this.addresses.set(name, address);
      if (this.addresses.size >= 3 && name === "gateway") break;
    }
    child.stdout.resume();
  }

  get gateway(): string {
    return this.addresses.get("gateway")!;
  }

  get url(): string {
    return `http://${this.gateway}`;
  }

  async stop(signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    const child = this.#process;
    if (child?.exitCode !== null || child.signalCode !== null) return;
    child.kill(signal);
    await once(child, "exit");
  }

  async remove(): Promise<void> {
    await this.stop();
    rmSync(this.folder, { recursive: true });
  }

  /** Creates an account, and returns its credentials. */
  async signUp(): Promise<{ email: string; password: string }> {
    const email = `${crypto.randomUUID()}@example.org`;
    const taskey = connect({ url: this.url });
    await taskey.auth.signUp({ email, password: PASSWORD });
    taskey.close();
    return { email, password: PASSWORD };
  }

  /** Returns a client of a new account. */
  async client(url = this.url): Promise<Taskey> {
    return connect({ url, credentials: await this.signUp() });
  }

  connect(credentials?: Credentials): Taskey {
    return connect({ url: this.url, credentials });
  }
}

/** A TCP proxy that simulates failures of the network. */
export class FaultProxy {
  readonly #sockets = new Set<Socket>();
  readonly #server: Server;
  /** What happens to data from the server. */
  mode: "forward" | "hold" = "forward";
  connections = 0;

  private constructor(target: string) {
    const [host, port] = target.split(":");
    this.#server = createServer((client) => {
      this.connections++;
      const upstream = connectSocket(Number(port), host);
      for (const [from, to] of [
        [client, upstream],
        [upstream, client],
      ] as const) {
        this.#sockets.add(from);
        from.on("data", (data) => {
          if (from === client || this.mode === "forward") to.write(data);
        });
        from.on("error", () => undefined);
        from.on("close", () => {
          this.#sockets.delete(from);
          to.destroy();
        });
      }
    });
  }

  static async start(target: string): Promise<FaultProxy> {
    const proxy = new FaultProxy(target);
    proxy.#server.listen(0, "127.0.0.1");
    await once(proxy.#server, "listening");
    return proxy;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Closes all connections. */
  cut(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  /** Executes a call whose answer is lost: the server handles it, and then the connection is cut. */
  async loseAnswer<T>(call: () => Promise<T>): Promise<T> {
    this.mode = "hold";
    const result = call();
    result.catch(() => undefined);
    await delay(300);
    this.mode = "forward";
    this.cut();
    return result;
  }

  stop(): void {
    this.#server.close();
    this.cut();
  }
}

export function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Waits until the condition is true. */
export async function until(condition: () => boolean | Promise<boolean>, timeoutMs = 10_000): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!(await condition())) {
    assert(Date.now() < deadline, "the condition did not become true in time");
    await delay(20);
  }
}
