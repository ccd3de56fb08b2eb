// Puts tasks in another place, one move after the other, so that each starts from where the last one has led.
import { call, explain } from "./api.js";
import { announce, tell } from "./notice.js";
import { isOpen, store } from "./store.js";

let last = Promise.resolve();

/** Moves a task as `MoveTask` has it, once the moves before it are done. */
export function move(id, place) {
  last = last.then(async () => {
    const task = store.task(id);
    const body = task && (typeof place === "function" ? place(task) : place);
    if (!body) return;
    try {
      const moved = await call("POST", `/v1/tasks/${id}:move`, { body });
      store.put(moved);
      announce(`Moved. ${position(moved)}`);
    } catch (error) {
      tell(explain(error));
    }
  });
  return last;
}

/** Moves a task by an arrow key. Answers whether the key is one. */
export function moveByKey(id, key) {
  const place = KEYS[key];
  if (place) move(id, place);
  return Boolean(place);
}

const KEYS = {
  ArrowUp: (task) => beside(task, -1, "beforeId"),
  ArrowDown: (task) => beside(task, 1, "afterId"),
  ArrowRight: (task) => {
    const above = neighbour(task, -1);
    return above && { parentId: above.id, last: true };
  },
  ArrowLeft: (task) => task.parentId && { afterId: task.parentId },
};

function beside(task, step, side) {
  const other = neighbour(task, step);
  return other && { [side]: other.id };
}

/** Open and completed tasks at the top of a list are shown apart. */
function siblings(task) {
  return store.children(task.listId, task.parentId).filter((one) => task.parentId || isOpen(one) === isOpen(task));
}

function neighbour(task, step) {
  const all = siblings(task);
  return all[all.findIndex((one) => one.id === task.id) + step];
}

function position(task) {
  const all = siblings(task);
  const parent = store.task(task.parentId);
  const where = parent ? ` in “${parent.title}”` : "";
  return `“${task.title}” is ${all.findIndex((one) => one.id === task.id) + 1} of ${all.length}${where}.`;
}
