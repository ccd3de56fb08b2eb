// Drags a task by its handle with a mouse, pen or finger: before or after another task, or into a list.
import { move } from "./move.js";
import { store } from "./store.js";

const DRAG_THRESHOLD_PX = 4;
const SCROLL_EDGE_PX = 60;

/** Makes a task draggable by its handle. */
export function makeDraggable(handle, item) {
  handle.addEventListener("pointerdown", (down) => {
    if (down.button !== 0) return;
    const drag = new AbortController();
    let isDragging = false, drop;
    const listen = (target, type, listener) => target.addEventListener(type, listener, { signal: drag.signal });
    const end = () => {
      drag.abort();
      markDrop();
      item.classList.remove("dragged");
    };
    handle.setPointerCapture(down.pointerId);
    listen(handle, "pointermove", (event) => {
      isDragging ||= Math.hypot(event.clientX - down.clientX, event.clientY - down.clientY) > DRAG_THRESHOLD_PX;
      if (!isDragging) return;
      item.classList.add("dragged");
      scrollNearEdge(event.clientY);
      drop = dropAt(event.clientX, event.clientY, item.dataset.id);
      markDrop(drop);
    });
    listen(handle, "pointerup", () => {
      end();
      if (drop) move(item.dataset.id, drop.body);
    });
    listen(handle, "pointercancel", end);
    listen(document, "keydown", (event) => event.key === "Escape" && end());
  });
}

function scrollNearEdge(y) {
  if (y < SCROLL_EDGE_PX) scrollBy(0, -SCROLL_EDGE_PX / 5);
  else if (y > innerHeight - SCROLL_EDGE_PX) scrollBy(0, SCROLL_EDGE_PX / 5);
}

/** Returns the drop target under the pointer and the body of the `MoveTask` request for it. */
function dropAt(x, y, id) {
  const under = document.elementFromPoint(x, y);
  const list = under?.closest("[data-list]");
  if (list) return { element: list, side: "target", body: { listId: list.dataset.list } };
  const target = under?.closest(".task");
  if (!target?.dataset.id || store.isWithin(target.dataset.id, id)) return undefined;
  const box = target.firstElementChild.getBoundingClientRect();
  const side = y < box.top + box.height / 2 ? "before" : "after";
  return { element: target, side, body: { [`${side}Id`]: target.dataset.id } };
}

function markDrop(drop) {
  for (const side of ["before", "after", "target"]) {
    for (const marked of document.querySelectorAll(`.${side}`)) marked.classList.remove(side);
  }
  drop?.element.classList.add(drop.side);
}
