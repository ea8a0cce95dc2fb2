// SPDX-License-Identifier: Apache-2.0
// Zoom and pan of the pictures, by buttons, keys and pointer. Without it all is there to read.
"use strict";
for (const place of document.querySelectorAll(".picture .scroll")) {
  const svg = place.querySelector("svg");
  const time = svg.querySelector(".time");
  const whole = time.width.baseVal.value;
  const scale = () => svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
  const things = [...time.querySelectorAll("[data-x]")];
  let wide = 1;  // how much wider time is drawn
  let left = 0;  // what is at the left end, in units that are not stretched

  // Only time is stretched: lanes keep their height, and text its shape.
  function show() {
    wide = Math.min(400, Math.max(1, wide));
    left = Math.min(whole - whole / wide, Math.max(0, left));
    for (const thing of things) {
      const x = (Number(thing.dataset.x) - left) * wide;
      if (thing.dataset.width === undefined) {
        thing.setAttribute("transform", `translate(${x} 0)`);
      } else {
        thing.setAttribute("x", x);
        thing.setAttribute("width", Math.max(Number(thing.dataset.width) * wide, 1));
      }
    }
  }
  function zoom(factor, at) {
    const before = whole / wide;
    wide = Math.min(400, Math.max(1, wide / factor));
    left += (before - whole / wide) * at;
    show();
  }
  function pan(part) { left += whole / wide * part; show(); }
  function reset() { wide = 1; left = 0; show(); }

  const tools = document.createElement("div");
  tools.className = "tools";
  const actions = [["+", "zoom in", () => zoom(0.7, 0.5)], ["\u2212", "zoom out", () => zoom(1 / 0.7, 0.5)],
    ["\u2190", "left", () => pan(-0.2)], ["\u2192", "right", () => pan(0.2)], ["0", "all of it", reset]];
  for (const [sign, what, act] of actions) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = sign;
    button.setAttribute("aria-label", what);
    button.title = what;
    button.addEventListener("click", act);
    tools.append(button);
  }
  place.before(tools);

  const keys = { "+": 0, "=": 0, "-": 1, "ArrowLeft": 2, "ArrowRight": 3, "0": 4 };
  place.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in keys)) return;
    if (event.key.startsWith("Arrow") && wide <= 1) return;  // The page scrolls it.
    event.preventDefault();
    actions[keys[event.key]][2]();
  });
  place.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    const box = time.getBoundingClientRect();
    const at = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
    zoom(event.deltaY > 0 ? 1.15 : 1 / 1.15, at);
  }, { passive: false });
  let from = null;
  svg.addEventListener("pointerdown", (event) => {
    if (wide <= 1 || event.button !== 0) return;
    from = event.clientX;
    svg.setPointerCapture(event.pointerId);
  });
  svg.addEventListener("pointermove", (event) => {
    if (from === null) return;
    pan((from - event.clientX) / (scale() * whole));
    from = event.clientX;
  });
  for (const end of ["pointerup", "pointercancel"]) svg.addEventListener(end, () => { from = null; });
}
