// Conversations in this browser: one localStorage entry each, so that two tabs do not overwrite each other's.
//
// A conversation is {id, title, updated, turns}; a turn {role: "user", content} or {role: "assistant", content, plinth,
// finish, failure, thumb}. What is read back is checked field by field: entries that are damaged, or of another version
// of this page, are passed over, and go first when room is needed. Nothing here throws, whatever the storage does.

const PREFIX = "plinth:conversation:";
const VERSION = 1;
const MAX_CONVERSATIONS = 200;
const MAX_CHARS = 2_000_000; // all together; browsers allow some five million
const MAX_TITLE = 80;

const textOf = (value) => (typeof value === "string" ? value : "");
const listOf = (value) => (Array.isArray(value) ? value.filter((item) => item && typeof item === "object") : []);

function picked(value, names) {
  return Object.fromEntries(names.map((name) => [name, textOf(value[name])]));
}

// What of an answer's extra data the page shows, in the shape it needs, whoever sent or stored it.
export function factsOf(raw) {
  if (!raw || typeof raw !== "object") return null;
  const timings = Object.entries(raw.timings_ms ?? {}).filter(([, ms]) => Number.isFinite(ms));
  return {
    ...picked(raw, ["answer_id", "tier", "model_version", "collection", "index_version", "index_as_of", "searched_for"]),
    citations: listOf(raw.citations).slice(0, 20).map((c) => ({
      ...picked(c, ["document", "title", "source", "text"]),
      also: listOf(c.also).slice(0, 5).map((copy) => picked(copy, ["document", "title", "source"])),
    })),
    grounded: raw.grounded === true,
    verdicts: listOf(raw.verdicts).map((verdict) => picked(verdict, ["stage", "action", "rule"])),
    dropped_passages: Number.isFinite(raw.dropped_passages) ? raw.dropped_passages : 0,
    timings_ms: Object.fromEntries(timings),
  };
}

function turnOf(raw) {
  if (raw.role === "user") return { role: "user", content: textOf(raw.content) };
  const failure = raw.failure && typeof raw.failure === "object" ? raw.failure : null;
  return {
    role: "assistant",
    content: textOf(raw.content),
    plinth: factsOf(raw.plinth),
    finish: textOf(raw.finish),
    failure: failure && { message: textOf(failure.message), retry: failure.retry === true },
    thumb: ["up", "down"].includes(raw.thumb) ? raw.thumb : "",
  };
}

function conversationOf(id, text) {
  try {
    const raw = JSON.parse(text);
    if (raw?.version !== VERSION || !Array.isArray(raw.turns) || !Number.isFinite(raw.updated)) return null;
    return { id, title: titleOf(textOf(raw.title)), updated: raw.updated, turns: listOf(raw.turns).map(turnOf) };
  } catch {
    return null;
  }
}

export function titleOf(question) {
  const line = question.replace(/\s+/g, " ").trim();
  return line.length > MAX_TITLE ? `${line.slice(0, MAX_TITLE - 1).trimEnd()}\u2026` : line || "Untitled";
}

export function newConversation() {
  const id = `${Date.now().toString(36)}-${crypto.getRandomValues(new Uint32Array(1))[0].toString(36)}`;
  return { id, title: "", updated: 0, turns: [] };
}

// A Storage, or null where the browser refuses one.
export function storageOf(kind) {
  try {
    return window[kind];
  } catch {
    return null;
  }
}

export function recall(storage, name) {
  try {
    return storage?.getItem(`plinth:${name}`) ?? "";
  } catch {
    return "";
  }
}

export function remember(storage, name, value) {
  try {
    storage?.setItem(`plinth:${name}`, value);
  } catch {
    // full or refused: it is forgotten at the next visit
  }
}

export class History {
  constructor(storage) {
    this.storage = storage;
    this.entries = new Map(); // id -> {title, updated, chars}; updated 0 for what cannot be read
    this.reread();
  }

  // Another tab may have written.
  reread() {
    this.entries.clear();
    try {
      for (const key of Object.keys(this.storage ?? {})) {
        if (key.startsWith(PREFIX)) this.note(key.slice(PREFIX.length), this.storage.getItem(key) ?? "");
      }
    } catch {
      // refused: there is no history
    }
  }

  note(id, text) {
    const read = conversationOf(id, text);
    this.entries.set(id, { title: read?.title ?? "", updated: read?.updated ?? 0, chars: text.length });
  }

  // [{id, title, updated}], newest first.
  list() {
    const readable = [...this.entries].filter(([, entry]) => entry.updated > 0);
    return readable.map(([id, { title, updated }]) => ({ id, title, updated })).sort((a, b) => b.updated - a.updated);
  }

  load(id) {
    try {
      return conversationOf(id, this.storage?.getItem(PREFIX + id) ?? "");
    } catch {
      return null;
    }
  }

  // True once it is stored; what has not been touched for longest makes room for it.
  save(conversation) {
    const { id, title, updated, turns } = conversation;
    const text = JSON.stringify({ version: VERSION, title, updated, turns });
    if (!this.storage || text.length > MAX_CHARS) return false;
    while (this.others(id).length >= MAX_CONVERSATIONS || this.chars(id) + text.length > MAX_CHARS) this.dropOldest(id);
    for (;;) {
      try {
        this.storage.setItem(PREFIX + id, text);
        this.entries.set(id, { title, updated, chars: text.length });
        return true;
      } catch (error) {
        if (error.name !== "QuotaExceededError" || !this.dropOldest(id)) return false;
      }
    }
  }

  remove(id) {
    this.entries.delete(id);
    try {
      this.storage?.removeItem(PREFIX + id);
    } catch {
      // refused: then it was not stored either
    }
  }

  others(id) {
    return [...this.entries.keys()].filter((other) => other !== id);
  }

  chars(id) {
    return this.others(id).reduce((sum, other) => sum + this.entries.get(other).chars, 0);
  }

  dropOldest(id) {
    const [oldest] = this.others(id).sort((a, b) => this.entries.get(a).updated - this.entries.get(b).updated);
    if (oldest === undefined) return false;
    this.remove(oldest);
    return true;
  }
}
