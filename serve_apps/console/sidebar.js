// The list of conversations: at the side of a wide window, a drawer over a narrow one.

import { byId, iconButton, make } from "/console/dom.js";

const DAY_MS = 86400000;
const NARROW = window.matchMedia("(max-width: 56rem)");

export class Sidebar {
  // `on` is {open(id), rename(id, title), remove(id), removeAll()}.
  constructor(on) {
    this.on = on;
    this.box = byId("sidebar");
    this.list = byId("list");
    this.renaming = false;
    byId("menu").addEventListener("click", () => this.drawer(true));
    byId("close").addEventListener("click", () => this.drawer(false));
    byId("backdrop").addEventListener("click", () => this.drawer(false));
    byId("clear").addEventListener("click", () => on.removeAll());
    NARROW.addEventListener("change", () => this.drawer(false));
  }

  get isOpen() {
    return this.box.classList.contains("open");
  }

  drawer(open) {
    if (open === this.isOpen) return;
    this.box.classList.toggle("open", open);
    byId("backdrop").hidden = !open;
    byId("column").inert = open;
    byId("menu").setAttribute("aria-expanded", String(open));
    byId(open ? "close" : "menu").focus();
  }

  // `entries`: [{id, title, updated}], newest first.
  show(entries, current) {
    if (this.renaming) return;
    this.list.replaceChildren();
    let group = "";
    let items = null;
    for (const entry of entries) {
      if (age(entry.updated) !== group) {
        group = age(entry.updated);
        items = make("ul", "");
        this.list.append(make("h2", "", group), items);
      }
      items.append(this.item(entry, entry.id === current));
    }
    if (!entries.length) this.list.append(make("p", "empty", "Conversations you begin are listed here."));
    byId("clear").hidden = !entries.length;
  }

  item(entry, isCurrent) {
    const open = make("button", "open", entry.title);
    open.type = "button";
    open.title = entry.title;
    if (isCurrent) open.setAttribute("aria-current", "true");
    open.addEventListener("click", () => {
      this.drawer(false);
      this.on.open(entry.id);
    });
    const item = make(
      "li",
      isCurrent ? "item current" : "item",
      open,
      iconButton("pencil", `Rename ${entry.title}`, "", () => this.rename(entry, item)),
      iconButton("trash", `Delete ${entry.title}`, "", () => {
        const next = (item.nextElementSibling ?? item.previousElementSibling)?.querySelector(".open").title;
        this.on.remove(entry.id);
        [...this.list.querySelectorAll(".open")].find((button) => button.title === next)?.focus();
      }),
    );
    return item;
  }

  rename(entry, item) {
    const input = make("input", "");
    input.value = entry.title;
    input.maxLength = 80;
    input.setAttribute("aria-label", "Name of the conversation");
    this.renaming = true;
    const end = (keep) => {
      if (!this.renaming) return;
      this.renaming = false;
      const title = input.value.trim();
      this.on.rename(entry.id, keep && title ? title : entry.title);
      [...this.list.querySelectorAll(".open")].find((b) => b.title === (keep && title ? title : entry.title))?.focus();
    };
    input.addEventListener("keydown", (event) => {
      event.stopPropagation(); // Escape and / mean something else to the page
      if (!["Enter", "Escape"].includes(event.key) || event.isComposing) return;
      event.preventDefault(); // Enter would go on to press what gets the focus
      end(event.key === "Enter");
    });
    input.addEventListener("blur", () => end(true));
    item.replaceChildren(input);
    input.focus();
    input.select();
  }
}

function age(updated) {
  const midnight = new Date().setHours(0, 0, 0, 0);
  if (updated >= midnight) return "Today";
  if (updated >= midnight - DAY_MS) return "Yesterday";
  return updated >= midnight - 7 * DAY_MS ? "Last seven days" : "Older";
}
