// Moves tasks. Moves run one after another, so that each starts from the result of the previous one.
import { call, explain } from "./api.js";
import { announce, showToast } from "./notice.js";
import { isOpen, store } from "./store.js";

let queue = Promise.resolve();

/**
 * Moves a task after all earlier moves. `target` is the body of the `MoveTask` request, or a function that returns it
 * for the task.
 */
export function move(id, target) {
  queue = queue.then(async () => {
    const task = store.task(id);
    const body = task && (typeof target === "function" ? target(task) : target);
    if (!body) return;
    try {
      const moved = await call("POST", `/v1/tasks/${id}:move`, { body });
      store.put(moved);
      announce(`Moved. ${position(moved)}`);
    } catch (error) {
      showToast(explain(error));
    }
  });
  return queue;
}

/** Moves a task if the key is an arrow key. Returns whether it is. */
export function moveByKey(id, key) {
  const target = TARGET_BY_KEY[key];
  if (target) move(id, target);
  return Boolean(target);
}

const TARGET_BY_KEY = {
  ArrowUp: (task) => besideNeighbour(task, -1, "beforeId"),
  ArrowDown: (task) => besideNeighbour(task, 1, "afterId"),
  ArrowRight: (task) => {
    const above = neighbour(task, -1);
    return above && { parentId: above.id, last: true };
  },
  ArrowLeft: (task) => task.parentId && { afterId: task.parentId },
};

function besideNeighbour(task, step, idField) {
  const sibling = neighbour(task, step);
  return sibling && { [idField]: sibling.id };
}

/** Returns the tasks that are shown beside a task. At the top level, open and completed tasks are shown separately. */
function siblings(task) {
  return store.children(task.listId, task.parentId).filter((other) => task.parentId || isOpen(other) === isOpen(task));
}

function neighbour(task, step) {
  const all = siblings(task);
  return all[all.findIndex((other) => other.id === task.id) + step];
}

function position(task) {
  const all = siblings(task);
  const parent = store.task(task.parentId);
  const where = parent ? ` in “${parent.title}”` : "";
  return `“${task.title}” is ${all.findIndex((other) => other.id === task.id) + 1} of ${all.length}${where}.`;
}
