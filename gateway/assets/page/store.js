// What this window knows: all lists and tasks. It changes by answers and by the stream alike, and tells who shows it.

/** A time as text that sorts: fractions have as many digits as the server needs, none at all for whole seconds. */
const sortable = (time = "") => time.replace(/(\.\d+)?Z$/, (_, fraction = ".") => fraction.padEnd(10, "0"));

class Store extends EventTarget {
  #tasks = new Map();
  #lists = new Map();
  #families;
  #told = true;

  /** Takes a task, unless a later version is known: answers and events can overtake one another. */
  put(task) {
    const known = this.#tasks.get(task.id);
    if (known && (known.etag === task.etag || sortable(known.updateTime) > sortable(task.updateTime))) return;
    this.#tasks.set(task.id, task);
    this.#tell();
  }

  /** Takes what has changed, as the server tells it. */
  apply(changes) {
    for (const { id, task, removed } of changes) {
      if (removed) this.#tasks.delete(id);
      else if (task) this.put(task);
    }
    if (changes.some((change) => change.removed)) this.#tell();
  }

  set lists(lists) {
    this.#lists = new Map(lists.map((list) => [list.id, list]));
    this.#tell();
  }

  /** The default list, then the others from the oldest to the newest: ids sort by time. */
  get lists() {
    const order = (one, other) => other.isDefault - one.isDefault || (one.id < other.id ? -1 : 1);
    return [...this.#lists.values()].sort(order);
  }

  list(id) {
    return this.#lists.get(id);
  }

  /** A task that is there. */
  task(id) {
    const task = this.#tasks.get(id);
    return task && !task.deleteTime ? task : undefined;
  }

  /** The tasks at the top of a list, or the parts of one, in their order. */
  children(listId, parentId = "") {
    this.#families ??= this.#group();
    return this.#families.get(`${listId}/${parentId}`) ?? [];
  }

  #group() {
    const families = new Map();
    for (const task of this.#tasks.values()) {
      if (task.deleteTime) continue;
      const key = `${task.listId}/${task.parentId}`;
      if (families.has(key)) families.get(key).push(task);
      else families.set(key, [task]);
    }
    for (const family of families.values()) family.sort((one, other) => (one.rank < other.rank ? -1 : 1));
    return families;
  }

  /** How many levels a task has above it. */
  depth(task) {
    const parent = this.#tasks.get(task.parentId);
    return parent ? this.depth(parent) + 1 : 0;
  }

  isWithin(id, ancestor) {
    const task = this.#tasks.get(id);
    return id === ancestor || Boolean(task?.parentId && this.isWithin(task.parentId, ancestor));
  }

  /** How many tasks of each list are still to be done. */
  counts() {
    const counts = new Map();
    for (const task of this.#tasks.values()) {
      if (!task.deleteTime && isOpen(task)) counts.set(task.listId, (counts.get(task.listId) ?? 0) + 1);
    }
    return counts;
  }

  /** Whether a task is of a list that is not known yet. */
  get lacksLists() {
    return [...this.#tasks.values()].some((task) => !task.deleteTime && !this.#lists.has(task.listId));
  }

  forgetTasks() {
    this.#tasks.clear();
    this.#tell();
  }

  forget() {
    this.#lists.clear();
    this.forgetTasks();
  }

  /** Once for all that changes in one go. */
  #tell() {
    this.#families = undefined;
    if (!this.#told) return;
    this.#told = false;
    queueMicrotask(() => {
      this.#told = true;
      this.dispatchEvent(new Event("change"));
    });
  }
}

export const isOpen = (task) => task.state !== "STATE_COMPLETED";

export const store = new Store();
