// Whether the service is there: asked often and cheaply while somebody looks at the page, so that the page knows within
// three seconds that it is gone, and again that it is back.

const EVERY_MS = 1000; // with the timeout: at most 2.5 s from the last sign of life to the banner
const TIMEOUT_MS = 1500;
const READY_MS = 30000; // how old facts about the index may get
const WAITING_MS = 3000;

// Calls on.alive(boolean) when that changes, and on.ready(facts, message) after each look at the index: facts are null
// while there is none.
export class ServiceWatch {
  constructor(on) {
    this.on = on;
    this.alive = null; // not known yet
    this.timer = 0;
    this.looking = false;
    this.readyDue = 0;
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "visible") this.look();
    });
  }

  async look() {
    if (this.looking) return;
    this.looking = true;
    clearTimeout(this.timer);
    const began = performance.now();
    const alive = await answers("/healthz");
    if (alive && (!this.alive || began >= this.readyDue)) this.askReady();
    if (alive !== this.alive) {
      this.alive = alive;
      this.on.alive(alive);
    }
    this.looking = false;
    if (document.visibilityState === "hidden") return;
    this.timer = setTimeout(() => this.look(), Math.max(0, began + EVERY_MS - performance.now()));
  }

  async askReady() {
    this.readyDue = Infinity; // until this one is answered
    let facts = null;
    let message = "";
    try {
      const response = await within(10 * TIMEOUT_MS, "/readyz");
      const body = await response.json();
      if (response.ok) facts = body;
      else message = body.error?.message ?? "";
    } catch {
      // gone meanwhile: the next look says so
    }
    this.readyDue = performance.now() + (facts ? READY_MS : WAITING_MS);
    this.on.ready(facts, message);
  }
}

async function answers(path) {
  try {
    return (await within(TIMEOUT_MS, path)).ok;
  } catch {
    return false;
  }
}

async function within(timeout, path) {
  const control = new AbortController();
  const timer = setTimeout(() => control.abort(), timeout);
  try {
    return await fetch(path, { cache: "no-store", signal: control.signal });
  } finally {
    clearTimeout(timer);
  }
}
