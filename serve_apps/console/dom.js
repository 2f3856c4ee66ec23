// Small pieces of the pages: nodes, icons, the clipboard, the line at the bottom that says what happened.

const SHAPES = {
  plus: "M10 4.5v11M4.5 10h11",
  menu: "M3.5 6h13M3.5 10h13M3.5 14h13",
  close: "M5.5 5.5l9 9M14.5 5.5l-9 9",
  pencil: "M4 16l.8-3.3 8.3-8.3a1.4 1.4 0 0 1 2 0l.5.5a1.4 1.4 0 0 1 0 2l-8.3 8.3z",
  trash: "M4 6h12M8 6V4.2h4V6M5.8 6l.7 10h7l.7-10M8.6 9v4M11.4 9v4",
  copy: "M7.5 7.5h8.5V16H7.5zM12.5 7.5V4H4v8.5h3.5",
  check: "M4.5 10.5l3.7 3.7L15.5 6",
  thumb: "M6.7 9v7H4.2V9zM6.7 9l3-5.3c1.1 0 1.9.8 1.7 2L11 8.2h3.9a1.6 1.6 0 0 1 1.6 1.9l-.9 4.5a1.7 1.7 0 0 1-1.7 1.4H6.7",
};
const SVG = "http://www.w3.org/2000/svg";
const TOAST_MS = 8000;

export const byId = (id) => document.getElementById(id);

export function make(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

export function svg(tag, attributes, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

export function icon(name) {
  const shape = svg("path", { d: SHAPES[name] });
  return svg("svg", { viewBox: "0 0 20 20", class: "icon", "aria-hidden": "true" }, shape);
}

export function iconButton(name, label, className, onClick) {
  const button = make("button", `bare ${className}`, icon(name));
  button.type = "button";
  button.title = label;
  button.setAttribute("aria-label", label);
  button.addEventListener("click", onClick);
  return button;
}

// Copies a text and shows on the button that was pressed whether that went well.
export async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    toast("The browser does not let this page copy. Select the text instead.");
    return;
  }
  const before = button.querySelector(".icon");
  const done = icon("check");
  before.replaceWith(done);
  button.classList.add("done");
  say("Copied");
  setTimeout(() => {
    done.replaceWith(before);
    button.classList.remove("done");
  }, 1500);
}

// Read out by screen readers, seen by nobody.
export function say(text) {
  byId("spoken").textContent = text;
}

let toastEnds = 0;

export function toast(message, label = "", action = null) {
  const box = byId("toast");
  clearTimeout(toastEnds);
  const hide = () => {
    box.hidden = true;
  };
  box.replaceChildren(make("span", "", message));
  if (action) {
    const button = make("button", "undo", label);
    button.type = "button";
    button.addEventListener("click", () => {
      hide();
      action();
    });
    box.append(button);
  }
  box.hidden = false;
  toastEnds = setTimeout(hide, TOAST_MS);
}
