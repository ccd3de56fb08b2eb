// Moves a task by its handle with a mouse, a pen or a finger: before or after another one, or into a list.
import { move } from "./move.js";
import { store } from "./store.js";

const THRESHOLD = 4;
const EDGE = 60;

/** Lets a task be dragged by its handle. */
export function makeDraggable(handle, item) {
  handle.addEventListener("pointerdown", (down) => {
    if (down.button !== 0) return;
    const drag = new AbortController();
    let dragged = false, place;
    const listen = (target, kind, run) => target.addEventListener(kind, run, { signal: drag.signal });
    const end = () => {
      drag.abort();
      mark();
      item.classList.remove("dragged");
    };
    handle.setPointerCapture(down.pointerId);
    listen(handle, "pointermove", (event) => {
      dragged ||= Math.hypot(event.clientX - down.clientX, event.clientY - down.clientY) > THRESHOLD;
      if (!dragged) return;
      item.classList.add("dragged");
      scroll(event.clientY);
      place = placeAt(event.clientX, event.clientY, item.dataset.id);
      mark(place);
    });
    listen(handle, "pointerup", () => {
      end();
      if (place) move(item.dataset.id, place.body);
    });
    listen(handle, "pointercancel", end);
    listen(document, "keydown", (event) => event.key === "Escape" && end());
  });
}

function scroll(y) {
  if (y < EDGE) scrollBy(0, -EDGE / 5);
  else if (y > innerHeight - EDGE) scrollBy(0, EDGE / 5);
}

/** What is under the pointer, and the move that a drop there makes. */
function placeAt(x, y, id) {
  const under = document.elementFromPoint(x, y);
  const list = under?.closest("[data-list]");
  if (list) return { shown: list, side: "target", body: { listId: list.dataset.list } };
  const target = under?.closest(".task");
  if (!target?.dataset.id || store.isWithin(target.dataset.id, id)) return undefined;
  const box = target.firstElementChild.getBoundingClientRect();
  const side = y < box.top + box.height / 2 ? "before" : "after";
  return { shown: target, side, body: { [`${side}Id`]: target.dataset.id } };
}

function mark(place) {
  for (const side of ["before", "after", "target"]) {
    for (const marked of document.querySelectorAll(`.${side}`)) marked.classList.remove(side);
  }
  place?.shown.classList.add(place.side);
}
