// The tables of the page: what there is, row by row, and what to do where there is nothing yet.

import { make } from "/console/dom.js";

const MINUTE = 60;
const HOUR = 3600;
const DAY = 86400;

// Milliseconds, seconds, amounts and times as people read them; a dash for what is not known.
export const ms = (value) => (value == null ? "–" : value < 1000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(1)} s`);
export const whole = (value) => (value == null ? "–" : Math.round(value).toLocaleString("en"));
export const clock = (date) => date.toLocaleTimeString("en-GB");
export const ago = (seconds) => {
  if (seconds < 2 * MINUTE) return `${Math.round(seconds)} s`;
  if (seconds < 2 * HOUR) return `${Math.round(seconds / MINUTE)} min`;
  return seconds < 2 * DAY ? `${Math.round(seconds / HOUR)} h` : `${Math.round(seconds / DAY)} days`;
};

export function replicaRows(deployments) {
  if (!deployments.length) return [note("Nobody says what runs. ", "plinth status", " asks each part.")];
  const cells = deployments.map((one) => {
    const short = one.target != null && one.running < one.target;
    const may = one.min == null ? "–" : one.min === one.max ? "fixed" : `${one.min} to ${one.max}`;
    const last = one.last ? `${one.last.before} to ${one.last.after}, ${one.last.why}, ${clock(new Date(one.last.at))}` : "–";
    const running = badge(short ? "bad" : "", whole(one.running));
    return [one.name, running, whole(one.target), may, whole(one.in_work), whole(one.waiting), whole(one.ups), whole(one.downs), last];
  });
  return [table(["Deployment", "#Running", "#Wanted", "Min to max", "#In work", "#Waiting", "#More", "#Fewer", "Last change"], cells)];
}

const GATES = {
  passed: ["good", "passed"],
  "not passed": ["warn", "not passed"],
  baseline: ["", "what gates compare with"],
  none: ["", "none"],
};

export function tierRows(tiers, lately) {
  if (tiers === null) return [note("The gateway does not know its tiers yet.")];
  const cells = tiers.map((one) => {
    const seen = lately?.tiers[one.name];
    const [look, gate] = GATES[one.gate] ?? ["", "–"];
    const state = badge({ ready: "good", asleep: "" }[one.state] ?? "bad", one.state);
    const version = one.version ? make("code", "", one.version) : "–";
    return [one.name, one.kind, state, version, badge(look, gate), whole(one.under_way), whole(seen?.answers ?? 0),
      ms(seen?.p50_ms), ms(seen?.p95_ms), ms(seen?.first_p95_ms)]; // prettier-ignore
  });
  const found = [table(["Tier", "Kind", "State", "Version", "Gate", "#Under way", "#Answers", "#P50", "#P95", "#First text P95"], cells)];
  if (!tiers.some(({ kind }) => kind === "model")) {
    found.push(note("No model yet: ", "plinth train model", " trains one. Until then answers are the documents' own words."));
  }
  return found;
}

export function collectionRows(collections, leftOut) {
  if (collections === null) return [note("The retriever does not answer: ", "plinth logs retriever", " says why.")];
  if (!collections.length) return [note("No index yet: ", "plinth index build", " makes one of your documents.")];
  const cells = collections.map((one) => [
    one.name + (one.default ? " (default)" : ""),
    badge(one.loaded ? "good" : "", one.loaded ? "loaded" : "on demand"),
    make("code", "", one.index_version),
    ago(one.age_s),
    String(one.index_as_of).slice(0, 16).replace("T", " "),
    whole(one.documents),
    whole(one.chunks),
  ]);
  const found = [table(["Collection", "State", "Index", "#Age", "As of (UTC)", "#Documents", "#Passages"], cells)];
  return leftOut ? [...found, note(`${leftOut} more are not shown.`)] : found;
}

export function eventRows(events) {
  if (events === null) return [note("Nobody says what changed.")];
  if (!events.length) return [note("No number of replicas has changed since the start.")];
  const newest = [...events].reverse();
  const cells = newest.map((one) => [
    clock(new Date(one.ts)),
    one.deployment,
    badge(one.after > one.before ? "good" : "", `${one.before} to ${one.after}`),
    one.why,
  ]);
  return [table(["Time", "Deployment", "Replicas", "Why"], cells)];
}

// A column whose name begins with # holds numbers.
function table(columns, rows) {
  const numeric = columns.map((name) => name.startsWith("#"));
  const cell = (tag, value, index) => make(tag, numeric[index] ? "number-cell" : "", value);
  const head = columns.map((name, index) => {
    const th = cell("th", name.replace("#", ""), index);
    th.scope = "col";
    return th;
  });
  const body = rows.map((row) => make("tr", "", ...row.map((value, index) => {
    const node = cell(index ? "td" : "th", value, index);
    if (!index) node.scope = "row";
    return node;
  })));
  return make("table", "", make("thead", "", make("tr", "", ...head)), make("tbody", "", ...body));
}

const badge = (look, text) => make("span", look ? `mark ${look}` : "", text);

function note(before, command = "", after = "") {
  return make("p", "note", before, ...(command ? [make("code", "", command)] : []), after);
}
