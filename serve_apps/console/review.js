// The page of the review queue: what guards found, a page at a time, and what people decide about it.

import { byId, make } from "/console/dom.js";
import { fill, itemRow } from "/console/review_item.js";

const AT_ONCE = 50;
const TIMEOUT_MS = 10000;
const EMPTY = {
  open: ["Nothing waits for a decision. A policy with the action ", "review", " sends what guards find here."],
  decided: ["Nobody has decided anything yet."],
  all: ["There is nothing: a policy with the action ", "review", " sends what guards find here."],
};

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

let last = 0; // the number after which the next page begins
let looks = 0; // an answer to an earlier look than the last one is not shown

// -- what is asked ---------------------------------------------------------------------------------------------------
async function ask(path, body = null) {
  const control = new AbortController();
  const timer = setTimeout(() => control.abort(), TIMEOUT_MS);
  const sent = body && { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  try {
    const response = await fetch(path, { cache: "no-store", signal: control.signal, ...sent });
    const found = await response.json().catch(() => ({}));
    if (!response.ok) throw new Refused(response.status, found.error?.message ?? `status ${response.status}`);
    return found;
  } catch (error) {
    if (error instanceof Refused) throw error;
    throw new Refused(0, control.signal.aborted ? "no answer in time" : "no connection");
  } finally {
    clearTimeout(timer);
  }
}

async function look(more = false) {
  const mine = ++looks;
  const state = byId("state").value;
  status("waiting", "looking");
  try {
    const query = new URLSearchParams({ state, after: more ? last : 0, limit: AT_ONCE });
    const found = await ask(`/v1/review?${query}`);
    if (mine !== looks) return;
    show(found, state, more);
  } catch (error) {
    if (mine === looks) refused(error);
  }
}

async function decide(decision, note, row) {
  const buttons = [...row.querySelectorAll("button")];
  for (const one of buttons) one.disabled = true;
  try {
    const found = await ask(`/v1/review/${encodeURIComponent(row.dataset.id)}`, { decision, note });
    byId("gone").hidden = true;
    fill(row, found, decide);
    status("ready", `decided: ${decision}`);
    next(row).focus();
  } catch (error) {
    for (const one of buttons) one.disabled = false;
    refused(error);
    buttons.find((one) => one.textContent === decision)?.focus();
  }
}

// Where the keyboard goes on: the next one that waits, else what was just decided.
function next(row) {
  for (let one = row.nextElementSibling; one; one = one.nextElementSibling) {
    const waits = one.querySelector(".choice button");
    if (waits) return waits;
  }
  return row.querySelector("button");
}

// -- what is shown ---------------------------------------------------------------------------------------------------
function show(found, state, more) {
  last = found.last;
  byId("gone").hidden = true;
  const rows = found.data.map((one) => itemRow(one, decide));
  const items = byId("items");
  if (more) items.append(...rows);
  else items.replaceChildren(...rows);
  const empty = byId("empty");
  empty.hidden = items.childElementCount > 0;
  const [before, command = "", after = ""] = EMPTY[state];
  empty.replaceChildren(before, ...(command ? [make("code", "", command)] : []), after);
  byId("more").hidden = !found.has_more;
  status("ready", `${items.childElementCount}${found.has_more ? " and more" : ""} shown`);
  if (more && rows.length) rows[0].querySelector("button").focus();
}

function refused({ status: code, message }) {
  const box = byId("gone");
  const said = {
    0: ["The service cannot be reached (", message, "). Look again, or start it with ", make("code", "", "plinth up"), "."],
    401: ["You are not signed in any more. ", again("Sign in"), " and come back."],
    403: ["Your key may not review: it needs the scope ", make("code", "", "admin"), ". Whoever keeps the keys makes one with ",
      make("code", "", "plinth keys create NAME --scope admin"), "."],
    404: ["It is not there any more, or no queue is kept here: ", message, "."],
  }; // prettier-ignore
  box.replaceChildren(...(said[code] ?? ["That did not work: ", message, "."]));
  box.hidden = false;
  status("down", { 0: "not reachable", 401: "not signed in", 403: "not allowed" }[code] ?? "failed");
}

// The page itself is where one signs in.
function again(label) {
  const link = make("a", "", label);
  link.href = "/review";
  return link;
}

function status(state, label) {
  const box = byId("status");
  box.className = `status ${state}`;
  box.querySelector(".label").textContent = label;
}

// -- hands -----------------------------------------------------------------------------------------------------------
byId("state").addEventListener("change", () => look());
byId("again").addEventListener("click", () => look());
byId("more").addEventListener("click", () => look(true));
look();
