// The chat page: one conversation in the middle, wired to its history, its service and the keyboard.

import { AnswerView } from "/console/answer.js";
import { ask, ChatError, chatModels, exampleQuestions, judge } from "/console/chat.js";
import { CollectionPicker } from "/console/collections.js";
import { byId, icon, make, say, toast } from "/console/dom.js";
import { factsOf, History, newConversation, recall, remember, storageOf, titleOf } from "/console/history.js";
import { ServiceWatch } from "/console/service.js";
import { Sidebar } from "/console/sidebar.js";
import { signOut, whoami } from "/console/signin.js";

const INTERRUPTED = { message: "The page was left before the answer was complete.", retry: true };

const turns = byId("turns");
const question = byId("question");
const send = byId("send");
const scroller = byId("scroller");
const local = storageOf("localStorage");
const session = storageOf("sessionStorage"); // which conversation this tab shows
const history = new History(local);
let conversation = newConversation();
let running = null; // AbortController of the answer in progress
let leaving = false; // the browser breaks off what is under way before it leaves the page

// -- asking ----------------------------------------------------------------------------------------------------------
function submit(text) {
  if (!text || running || watch.alive === false) return false;
  if (!conversation.turns.length) conversation.title = titleOf(text);
  conversation.turns.push({ role: "user", content: text });
  keep(conversation);
  showQuestion(text);
  answer();
  return true;
}

async function answer() {
  const mine = conversation;
  const turn = { role: "assistant", content: "", plinth: null, finish: "", failure: null, thumb: "" };
  const view = viewOf(turn, mine);
  const control = new AbortController();
  running = control;
  update();
  follow(true);
  say("Answering");
  try {
    for await (const event of ask(sendable(mine.turns), byId("model").value, collections.chosen, control.signal)) {
      const near = atEnd();
      if (event.text) view.add(event.text, () => follow(near));
      if (event.plinth) {
        Object.assign(turn, { plinth: factsOf(event.plinth), finish: event.finish ?? "" });
        view.finish();
        follow(near);
      }
    }
    say(turn.content || "No answer");
  } catch (error) {
    if (leaving) turn.failure = INTERRUPTED;
    else if (control.signal.aborted) turn.failure = { message: "Stopped.", retry: true };
    else if (error instanceof ChatError) turn.failure = { message: error.message, retry: error.retry };
    else throw error;
    view.fail(turn.failure);
    if (error instanceof ChatError) watch.look();
    follow(true);
  } finally {
    view.settle();
    mine.turns.push(turn);
    if (!mine.removed) keep(mine);
    if (running === control) running = null;
    update();
  }
}

// What the model is sent: the question, and before it those that were answered.
function sendable(all) {
  const sent = [];
  all.forEach((turn, index) => {
    const reply = all[index + 1];
    if (turn.role !== "user") return;
    if (index === all.length - 1) sent.push({ role: "user", content: turn.content });
    else if (reply?.role === "assistant" && reply.content && !reply.failure) {
      sent.push({ role: "user", content: turn.content }, { role: "assistant", content: reply.content });
    }
  });
  return sent;
}

// -- showing ---------------------------------------------------------------------------------------------------------
function showQuestion(text) {
  byId("welcome").hidden = true;
  turns.append(make("article", "turn question", text));
}

function viewOf(turn, mine) {
  const view = new AnswerView(turns, turn, {
    several: () => collections.several,
    thumb: () => judged(turn, mine),
    retry: () => {
      if (running || watch.alive === false) return;
      mine.turns = mine.turns.filter((other) => other !== turn);
      view.node.remove();
      answer();
    },
  });
  return view;
}

// A mark is kept here and sent; question and answer go along only if that is allowed for this one.
async function judged(turn, mine) {
  keep(mine);
  const said = { answer_id: turn.plinth.answer_id, rating: turn.thumb || "none" };
  try {
    await judge(said);
  } catch (error) {
    toast(`The mark stays on this page only. ${error.message}`);
    return;
  }
  if (!turn.thumb) return;
  const before = mine.turns.includes(turn) ? mine.turns.slice(0, mine.turns.indexOf(turn)) : mine.turns;
  const asked = before.findLast(({ role }) => role === "user").content;
  toast("Thank you. May question and answer be used to improve answers?", "Allow", () => {
    judge({ ...said, consent: true, question: asked, answer: turn.content })
      .then(() => toast("Allowed. Press the mark again to take it back."))
      .catch((error) => toast(error.message));
  });
}

function show(next) {
  running?.abort();
  running = null;
  conversation = next;
  remember(session, "open", next.id);
  turns.replaceChildren();
  byId("welcome").hidden = next.turns.length > 0;
  for (const turn of next.turns) {
    if (turn.role === "user") showQuestion(turn.content);
    else viewOf(turn, next).restore();
  }
  if (next.turns.at(-1)?.role === "user") {
    viewOf({ role: "assistant", content: "", plinth: null, finish: "", failure: INTERRUPTED, thumb: "" }, next).restore();
  }
  sidebar.show(history.list(), next.id);
  update();
  follow(true);
}

function fresh() {
  sidebar.drawer(false);
  show(newConversation());
  focusQuestion();
}

// Where there is a keyboard already: a phone's would cover the page.
function focusQuestion() {
  if (!window.matchMedia("(hover: none)").matches) question.focus();
}

function keep(changed) {
  changed.updated = Date.now();
  if (!history.save(changed) && !changed.unsaved) {
    changed.unsaved = true;
    toast("This conversation cannot be kept: the browser gives this page no more room. It lasts until you reload.");
  }
  remember(session, "open", conversation.id);
  sidebar.show(history.list(), conversation.id);
}

// What can be pressed now.
function update() {
  const gone = watch.alive === false;
  send.classList.toggle("stop", running !== null);
  send.setAttribute("aria-label", running ? "Stop" : "Send");
  send.disabled = !running && (gone || !question.value.trim());
  for (const button of document.querySelectorAll(".needs-service")) button.disabled = gone;
}

const atEnd = () => scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 120;

function follow(wanted) {
  if (wanted) scroller.scrollTop = scroller.scrollHeight;
}

function grow() {
  question.rows = 1;
  const line = parseFloat(getComputedStyle(question).lineHeight);
  question.rows = Math.min(8, Math.max(1, Math.floor((question.scrollHeight + 2) / line)));
  update();
}

// -- the list of conversations ---------------------------------------------------------------------------------------
function removed(gone) {
  if (gone.some(({ id }) => id === conversation.id)) {
    conversation.removed = true;
    show(newConversation());
  }
  for (const { id } of gone) history.remove(id);
  sidebar.show(history.list(), conversation.id);
  const what = gone.length === 1 ? `\u201c${gone[0].title}\u201d` : `${gone.length} conversations`;
  toast(`Deleted ${what}.`, "Undo", () => {
    for (const back of gone) history.save(back);
    sidebar.show(history.list(), conversation.id);
  });
}

const sidebar = new Sidebar({
  open: (id) => {
    const found = history.load(id);
    if (found && id !== conversation.id) show(found);
    focusQuestion();
  },
  rename: (id, title) => {
    const found = id === conversation.id ? conversation : history.load(id);
    if (found) {
      found.title = title;
      history.save(found);
    }
    sidebar.show(history.list(), conversation.id);
  },
  remove: (id) => removed([history.load(id)].filter(Boolean)),
  removeAll: () => removed(history.list().map(({ id }) => history.load(id)).filter(Boolean)),
});

window.addEventListener("beforeunload", () => {
  leaving = true;
});
window.addEventListener("pageshow", () => {
  leaving = false;
});
window.addEventListener("storage", (event) => {
  if (event.storageArea !== local) return;
  history.reread();
  const changed = event.key?.endsWith(`:${conversation.id}`) && history.load(conversation.id);
  if (changed && !running) show(changed);
  else sidebar.show(history.list(), conversation.id);
});

// -- the service -----------------------------------------------------------------------------------------------------
const watch = new ServiceWatch({
  alive: (alive) => {
    byId("gone").hidden = alive;
    const start = make("code", "", "plinth up");
    byId("gone").replaceChildren("Plinth does not answer. Start it with ", start, "; this page reconnects by itself.");
    if (!alive) showStatus("down", "not reachable", "");
    update();
  },
  ready: (facts, message) => {
    if (!watch.alive) return;
    if (facts) showIndex(facts);
    else showStatus("waiting", "no index yet", message);
    showModels();
    showCollection(facts);
  },
});

const collections = new CollectionPicker(local, () => watch.askReady());

// What the questions of this page are answered from: the collection chosen, else the default one, which `facts` are of.
async function showCollection(facts) {
  await collections.update();
  if (facts && collections.card) showIndex(collections.card);
  showExamples(Boolean(facts));
}

function showIndex(facts) {
  const chunks = Number(facts.chunks);
  const count = chunks ? `${chunks.toLocaleString("en")} passage${chunks === 1 ? "" : "s"}` : "ready";
  const date = facts.index_as_of ? `, ${String(facts.index_as_of).slice(0, 10)}` : "";
  const name = collections.card ? `${collections.card.id}, index` : "Index";
  showStatus("ready", count, `${name} ${facts.index_version ?? ""}`.trim(), date);
}

function showStatus(state, label, title, date = "") {
  const box = byId("status");
  box.className = `status ${state}`;
  box.title = title;
  box.querySelector(".label").replaceChildren(label, make("span", "date", date));
}

async function showModels() {
  const picker = byId("model");
  let models;
  try {
    models = await chatModels();
  } catch {
    return; // gone or out of order: what was offered stays
  }
  if (!models.length) return;
  const wanted = recall(local, "model");
  picker.replaceChildren(
    ...models.map(({ id, note }) => {
      const option = make("option", "", note ? `${id} (${note})` : id);
      option.value = id;
      return option;
    }),
  );
  picker.value = models.some(({ id }) => id === wanted) ? wanted : models[0].id;
}

let examplesOf = ""; // what those on the page were made of; empty: ask

// Not asked for again while they are made of the same: each time counts as a request.
async function showExamples(wanted) {
  const made = wanted ? collections.madeOf : "";
  if (made && made === examplesOf) return;
  examplesOf = "";
  let questions = [];
  try {
    if (wanted) questions = await exampleQuestions(collections.chosen);
    examplesOf = made;
  } catch {
    // gone, out of order or too often: none are shown
  }
  const box = byId("examples");
  if (questions.join("\n") === box.dataset.shown) return;
  box.dataset.shown = questions.join("\n");
  box.replaceChildren(
    ...questions.map((text) => {
      const button = make("button", "example needs-service", text);
      button.type = "button";
      button.addEventListener("click", () => submit(text));
      return make("li", "", button);
    }),
  );
  update();
}

// -- hands -----------------------------------------------------------------------------------------------------------
function sendWritten() {
  if (submit(question.value.trim())) {
    question.value = "";
    grow();
  }
}

byId("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  if (running) running.abort();
  else sendWritten();
});
question.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  sendWritten();
});
question.addEventListener("input", grow);
byId("model").addEventListener("change", () => remember(local, "model", byId("model").value));
byId("fresh").addEventListener("click", fresh);
byId("fresh-small").addEventListener("click", fresh);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && sidebar.isOpen) sidebar.drawer(false);
  else if (event.key === "Escape" && running) running.abort();
  else if (event.key === "/" && !event.target.closest("textarea, input, select") && !sidebar.isOpen) {
    event.preventDefault();
    question.focus();
  }
});

// Who is signed in, where people are told apart at all.
async function showWho() {
  const who = await whoami().catch(() => null);
  if (!who?.keys) return;
  byId("who").hidden = false;
  byId("who").querySelector("span").textContent = `Signed in: ${who.tenant}`;
  byId("leave").addEventListener("click", () => signOut().catch((error) => toast(error.message)));
}

showWho();
byId("menu").append(icon("menu"));
byId("close").append(icon("close"));
byId("fresh").prepend(icon("plus"));
byId("fresh-small").append(icon("plus"));
show(history.load(recall(session, "open")) ?? newConversation());
watch.look();
