// All lists and tasks of the user, updated by responses and by the stream of changes. Dispatches `change` to the views.

/** Converts a time to text that sorts correctly. The server omits zeros at the end of fractions. */
const sortable = (time = "") => time.replace(/(\.\d+)?Z$/, (_, fraction = ".") => fraction.padEnd(10, "0"));

class Store extends EventTarget {
  #tasks = new Map();
  #lists = new Map();
  #childrenByParent;
  #isNotified = true;

  /** Whether all tasks have been loaded. */
  isLoaded = false;

  /** Stores a task, unless a later version is stored. */
  put(task) {
    this.#put(this.#tasks, task);
  }

  /** Stores a list, unless a later version is stored. */
  putList(list) {
    this.#put(this.#lists, list);
  }

  /** Responses and events can arrive out of order. */
  #put(items, item) {
    const stored = items.get(item.id);
    if (stored && (stored.etag === item.etag || sortable(stored.updateTime) > sortable(item.updateTime))) return;
    items.set(item.id, item);
    this.#notify();
  }

  removeList(id) {
    this.#remove(this.#lists, id);
  }

  #remove(items, id) {
    if (items.delete(id)) this.#notify();
  }

  /** Applies changes to lists and tasks from the server. */
  apply({ listChanges, changes, hasMore }) {
    for (const { id, taskList, removed } of listChanges) {
      if (removed) this.removeList(id);
      else if (taskList) this.putList(taskList);
    }
    for (const { id, task, removed } of changes) {
      if (removed) this.#remove(this.#tasks, id);
      else if (task) this.put(task);
    }
    // After the views have been told of the changes.
    if (!hasMore) queueMicrotask(() => (this.isLoaded = true));
  }

  /** The default list first, then the others from the oldest to the newest: ids sort by creation time. */
  get lists() {
    const order = (a, b) => b.isDefault - a.isDefault || (a.id < b.id ? -1 : 1);
    return [...this.#lists.values()].sort(order);
  }

  list(id) {
    return this.#lists.get(id);
  }

  /** Returns a task, or `undefined` if it does not exist or is deleted. */
  task(id) {
    const task = this.#tasks.get(id);
    return task && !task.deleteTime ? task : undefined;
  }

  /** All tasks that are not deleted. */
  get tasks() {
    return [...this.#tasks.values()].filter((task) => !task.deleteTime);
  }

  /** Returns the top-level tasks of a list, or the subtasks of a task, in order. */
  children(listId, parentId = "") {
    this.#childrenByParent ??= this.#groupByParent();
    return this.#childrenByParent.get(`${listId}/${parentId}`) ?? [];
  }

  #groupByParent() {
    const groups = new Map();
    for (const task of this.#tasks.values()) {
      if (task.deleteTime) continue;
      const key = `${task.listId}/${task.parentId}`;
      if (groups.has(key)) groups.get(key).push(task);
      else groups.set(key, [task]);
    }
    for (const group of groups.values()) group.sort((a, b) => (a.rank < b.rank ? -1 : 1));
    return groups;
  }

  /** Returns the open subtasks of a task, at all levels. */
  openSubtasks(task) {
    const children = this.children(task.listId, task.id);
    return children.flatMap((child) => [...(isOpen(child) ? [child] : []), ...this.openSubtasks(child)]);
  }

  /** Returns the number of ancestors of a task. */
  depth(task) {
    const parent = this.#tasks.get(task.parentId);
    return parent ? this.depth(parent) + 1 : 0;
  }

  /** Reports whether a task is `ancestor` or one of its descendants. */
  isWithin(id, ancestor) {
    const task = this.#tasks.get(id);
    return id === ancestor || Boolean(task?.parentId && this.isWithin(task.parentId, ancestor));
  }

  /** Returns the number of open tasks by list id. */
  openCounts() {
    const counts = new Map();
    for (const task of this.#tasks.values()) {
      if (!task.deleteTime && isOpen(task)) counts.set(task.listId, (counts.get(task.listId) ?? 0) + 1);
    }
    return counts;
  }

  clear() {
    this.isLoaded = false;
    this.#lists.clear();
    this.#tasks.clear();
    this.#notify();
  }

  /** Dispatches `change` in a microtask, once for all changes that are made synchronously. */
  #notify() {
    this.#childrenByParent = undefined;
    if (!this.#isNotified) return;
    this.#isNotified = false;
    queueMicrotask(() => {
      this.#isNotified = true;
      this.dispatchEvent(new Event("change"));
    });
  }
}

export const isOpen = (task) => task.state !== "STATE_COMPLETED";

export const store = new Store();
