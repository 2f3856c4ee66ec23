// Asks for a path again and again while somebody looks: every two seconds, and more rarely while nobody answers.

const EVERY_MS = 2000;
const LONGEST_MS = 30000; // between two tries while it does not answer
const TIMEOUT_MS = 8000;

// Calls on.news(found) after each answer, and on.lost(since, message) after each try without one: `since` is when it
// answered last, or when it was first asked (Date).
export class Feed {
  constructor(path, on) {
    this.path = path;
    this.on = on;
    this.paused = false;
    this.timer = 0;
    this.asking = false;
    this.failures = 0;
    this.last = new Date();
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "visible") this.look();
    });
  }

  pause(wanted) {
    this.paused = wanted;
    clearTimeout(this.timer);
    if (!wanted) this.look();
  }

  async look() {
    if (this.asking || this.paused) return;
    this.asking = true;
    clearTimeout(this.timer);
    try {
      const found = await answer(this.path);
      this.failures = 0;
      this.last = new Date();
      this.on.news(found);
    } catch (error) {
      if (!(error instanceof NoAnswer)) throw error;
      this.failures += 1;
      this.on.lost(this.last, error.message);
    } finally {
      this.asking = false;
      const wait = Math.min(LONGEST_MS, EVERY_MS * 2 ** this.failures);
      if (!this.paused && document.visibilityState !== "hidden") this.timer = setTimeout(() => this.look(), wait);
    }
  }
}

class NoAnswer extends Error {}

async function answer(path) {
  const control = new AbortController();
  const timer = setTimeout(() => control.abort(), TIMEOUT_MS);
  try {
    const response = await fetch(path, { cache: "no-store", signal: control.signal });
    if (!response.ok) throw new NoAnswer(`it answers with status ${response.status}`);
    return await response.json();
  } catch (error) {
    if (error instanceof NoAnswer) throw error;
    throw new NoAnswer(control.signal.aborted ? "no answer in time" : "no connection");
  } finally {
    clearTimeout(timer);
  }
}
