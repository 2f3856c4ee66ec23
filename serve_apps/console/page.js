// The chat page. Text from documents and models only ever becomes text nodes, never markup.

import { ask, ChatError } from "/console/chat.js";

const byId = (id) => document.getElementById(id);
const turns = byId("turns");
const question = byId("question");
const send = byId("send");
const scroller = byId("scroller");
const conversation = []; // what is sent: {role, content}
let running = null; // AbortController of the answer in progress
let serial = 0;

function make(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

// -- one answer ------------------------------------------------------------------------------------------------------
class AnswerView {
  constructor() {
    this.id = `answer-${++serial}`;
    this.text = "";
    this.sources = [];
    this.body = make("div", "text");
    this.node = make("article", "turn answer", this.body);
    this.node.setAttribute("aria-busy", "true");
    turns.append(this.node);
  }

  add(text) {
    this.text += text;
    this.body.replaceChildren(...this.rendered());
  }

  finish(plinth, finish) {
    if (!plinth.grounded) {
      this.node.classList.add("unknown");
      const withheld = finish === "content_filter";
      this.body.before(make("p", "badge", withheld ? "Withheld by the safety guard" : "Not in the documents"));
    }
    this.notes(plinth, finish);
    if (plinth.citations.length) this.node.append(this.sourceList(plinth.citations));
    this.node.append(this.facts(plinth));
    this.body.replaceChildren(...this.rendered());
  }

  settle() {
    this.node.removeAttribute("aria-busy");
  }

  // Plain text with `code`, code blocks and [n] markers.
  rendered() {
    const nodes = [];
    const pattern = /```(?:[a-z]*\n)?([\s\S]*?)```|``([^`]+)``|`([^`\n]+)`|\[(\d)\]/g;
    let place = 0;
    for (const found of this.text.matchAll(pattern)) {
      nodes.push(...this.named(this.text.slice(place, found.index)));
      place = found.index + found[0].length;
      if (found[1] !== undefined) nodes.push(make("pre", "", make("code", "", found[1].trim())));
      else if (found[4] === undefined) nodes.push(make("code", "", found[2] ?? found[3]));
      else nodes.push(this.marker(Number(found[4])));
    }
    nodes.push(...this.named(this.text.slice(place)));
    return nodes;
  }

  // The names of cited documents stand out in the text.
  named(text) {
    const names = this.sources.map((source) => source.name).sort((a, b) => b.length - a.length);
    if (!names.length) return [text];
    const escaped = names.map((name) => name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
    const parts = text.split(new RegExp(`(?<![\\w.])(${escaped.join("|")})(?![\\w]|\\.\\w)`));
    return parts.map((part, index) => (index % 2 ? make("code", "", part) : part));
  }

  marker(number) {
    const button = make("button", "marker", String(number));
    button.type = "button";
    const source = this.sources[number - 1];
    button.setAttribute("aria-label", `Source ${number}${source ? `: ${source.name}` : ""}`);
    button.disabled = !source;
    if (source) {
      button.title = source.name;
      button.setAttribute("aria-controls", source.details.id);
      button.addEventListener("click", () => this.show(source.details));
    }
    return button;
  }

  show(details) {
    details.open = true;
    details.classList.remove("shown");
    requestAnimationFrame(() => details.classList.add("shown"));
    details.scrollIntoView({ block: "nearest" });
    details.querySelector("summary").focus({ preventScroll: true });
  }

  sourceList(citations) {
    const list = make("ol", "sources");
    list.setAttribute("aria-label", "Sources");
    citations.forEach((citation, index) => {
      const summary = make(
        "summary",
        "",
        make("span", "number", String(index + 1)),
        make("span", "document", citation.document),
        make("span", "source", citation.source === citation.document ? "" : citation.source),
      );
      const details = make("details", "", summary, make("blockquote", "", citation.text));
      if (citation.title && citation.title !== citation.document) details.append(make("p", "title", citation.title));
      details.id = `${this.id}-source-${index + 1}`;
      this.sources.push({ details, name: citation.document });
      list.append(make("li", "", details));
    });
    return list;
  }

  notes(plinth, finish) {
    const redacted = (stage, prefix) =>
      plinth.verdicts.some((v) => v.stage === stage && v.action === "redact" && v.rule.startsWith(prefix));
    const notes = [];
    if (redacted("guard_in", "pii")) notes.push("Personal data in the conversation was replaced before searching.");
    if (redacted("guard_in", "invisible")) notes.push("Invisible characters in the conversation were removed.");
    if (redacted("guard_out", "pii")) notes.push("Personal data in the answer was replaced.");
    if (plinth.dropped_passages) notes.push(`${plinth.dropped_passages} passages did not fit and were left out.`);
    if (finish === "length") notes.push("The answer was cut at its length limit.");
    this.node.append(...notes.map((note) => make("p", "note", note)));
  }

  facts(plinth) {
    const ms = plinth.timings_ms ?? {};
    const round = (value) => (value < 10 ? value.toFixed(1) : String(Math.round(value)));
    const stages = make("dl", "stages");
    for (const [stage, value] of Object.entries(ms)) {
      if (stage !== "total") stages.append(make("div", "", make("dt", "", stage), make("dd", "", `${round(value)} ms`)));
    }
    for (const [name, value] of [
      ["model", plinth.model_version],
      ["index", `${plinth.index_version}, ${plinth.index_as_of.slice(0, 16).replace("T", " ")}`],
      ["answer", plinth.answer_id],
    ]) {
      stages.append(make("div", "wide", make("dt", "", name), make("dd", "", value)));
    }
    const total = ms.total === undefined ? "" : ` \u00b7 ${round(ms.total)} ms`;
    return make("details", "facts", make("summary", "", `${plinth.tier}${total}`), stages);
  }

  fail(message, retry) {
    const box = make("p", "failure", message);
    box.setAttribute("role", "alert");
    if (retry) {
      const again = make("button", "quiet", "Try again");
      again.type = "button";
      again.addEventListener("click", () => {
        this.node.remove();
        answer();
      });
      box.append(again);
    }
    this.node.append(box);
  }
}

// -- the conversation ------------------------------------------------------------------------------------------------
function submit() {
  const text = question.value.trim();
  if (!text || running) return;
  byId("welcome").hidden = true;
  byId("fresh").hidden = false;
  // A question whose answer failed stands alone on the page only.
  while (conversation.at(-1)?.role === "user") conversation.pop();
  conversation.push({ role: "user", content: text });
  turns.append(make("article", "turn question", text));
  question.value = "";
  grow();
  answer();
}

async function answer() {
  const view = new AnswerView();
  const control = new AbortController();
  running = control;
  busy(true);
  follow(true);
  try {
    for await (const event of ask(conversation, control.signal)) {
      const near = atEnd();
      if (event.text) view.add(event.text);
      if (event.plinth) view.finish(event.plinth, event.finish);
      follow(near);
    }
    conversation.push({ role: "assistant", content: view.text });
  } catch (error) {
    if (control.signal.aborted) view.fail("Stopped.", true);
    else if (error instanceof ChatError) view.fail(error.message, error.retry);
    else throw error;
    follow(true);
  } finally {
    view.settle();
    if (running === control) {
      running = null;
      busy(false);
    }
  }
}

function busy(on) {
  send.classList.toggle("stop", on);
  send.setAttribute("aria-label", on ? "Stop" : "Send");
  send.disabled = !on && !question.value.trim();
}

function fresh() {
  running?.abort();
  conversation.length = 0;
  turns.replaceChildren();
  byId("welcome").hidden = false;
  byId("fresh").hidden = true;
  question.focus();
}

const atEnd = () => scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 120;

function follow(wanted) {
  if (wanted) scroller.scrollTop = scroller.scrollHeight;
}

function grow() {
  question.rows = 1;
  const line = parseFloat(getComputedStyle(question).lineHeight);
  question.rows = Math.min(8, Math.max(1, Math.floor((question.scrollHeight + 2) / line)));
  if (!running) send.disabled = !question.value.trim();
}

async function status() {
  const box = byId("status");
  let label = "not reachable";
  let state = "down";
  try {
    const response = await fetch("/readyz");
    const body = await response.json();
    if (response.ok) {
      state = "ready";
      const chunks = Number(body.chunks);
      const count = chunks ? `${chunks.toLocaleString("en")} passage${chunks === 1 ? "" : "s"}` : "ready";
      label = body.index_as_of ? `${count}, ${String(body.index_as_of).slice(0, 10)}` : count;
      box.title = `Index ${body.index_version}`;
    } else {
      state = "waiting";
      label = "no index yet";
      box.title = body.error?.message ?? "";
    }
  } catch {
    box.title = "";
  }
  box.className = `status ${state}`;
  box.querySelector(".label").textContent = label;
  setTimeout(status, state === "ready" ? 30000 : 3000);
}

byId("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  if (running) running.abort();
  else submit();
});
question.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  submit();
});
question.addEventListener("input", grow);
byId("fresh").addEventListener("click", fresh);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && running) running.abort();
  else if (event.key === "/" && !event.target.closest("textarea")) {
    event.preventDefault();
    question.focus();
  }
});
busy(false);
status();
