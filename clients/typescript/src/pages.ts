import type { Message } from "@bufbuild/protobuf";
import type { CallOptions } from "@connectrpc/connect";

/** The type of the items on a page: the elements of its list of messages. */
type Item<Page> = { [K in keyof Page]-?: Page[K] extends (infer I extends Message)[] ? I : never }[keyof Page];

/** Iterates over the items of all pages, for example `paginate(taskey.tasks.listTasks, { filter: "state = OPEN" })`. */
export async function* paginate<Request extends object, Page extends Message>(
  list: (request: Request, options?: CallOptions) => Promise<Page>,
  request: Request,
  options?: CallOptions,
): AsyncGenerator<Item<Page>, void> {
  for (let next: { pageToken?: string } = {}; next.pageToken !== "";) {
    const page: object = await list({ ...request, ...next }, options);
    const items = Object.entries(page).find(([name, value]) => name !== "$unknown" && Array.isArray(value));
    yield* (items?.[1] ?? []) as Item<Page>[];
    next = { pageToken: (page as { nextPageToken?: string }).nextPageToken ?? "" };
  }
}
