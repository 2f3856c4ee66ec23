// The page of operations: what the service says of itself, every two seconds, with the last ten minutes as charts.

import { bars, figure, line, marks, steps } from "/console/charts.js";
import { byId, make } from "/console/dom.js";
import { Feed } from "/console/ops_feed.js";
import { ago, clock, collectionRows, eventRows, ms, replicaRows, tierRows, whole } from "/console/ops_tables.js";

const KEPT_S = 600;

const shown = {}; // box -> what it shows, as JSON: what did not change is left alone, so that text can be selected
const samples = []; // {at, running, target} of all deployments together, as far back as this page knows

function show(id, facts, nodes) {
  const key = JSON.stringify(facts);
  if (shown[id] === key) return;
  shown[id] = key;
  byId(id).replaceChildren(...nodes());
}

// -- what was told ---------------------------------------------------------------------------------------------------
function news(found) {
  byId("gone").hidden = true;
  byId("board").hidden = false;
  const short = found.deployments.filter((one) => one.target != null && one.running < one.target);
  if (short.length) status("waiting", `${short.map(({ name }) => name).join(", ")}: fewer replicas than wanted`);
  else status("ready", "live");
  remember(found);
  tiles(found);
  charts(found);
  const { deployments, scale_events: events, tiers, requests, collections } = found;
  show("replicas", deployments, () => replicaRows(deployments));
  show("tiers", [tiers, requests?.tiers], () => tierRows(tiers, requests));
  show("collections-known", collections?.map((one) => ({ ...one, age_s: ago(one.age_s) })) ?? null, () =>
    collectionRows(collections, found.left_out),
  );
  show("events", events, () => eventRows(events));
}

function lost(since, why) {
  status("down", "not reachable");
  const box = byId("gone");
  box.hidden = false;
  const told = byId("board").hidden ? "" : " What is shown is from then.";
  const text = `Not reachable since ${clock(since)} (${why}).${told} This page tries again by itself; start Plinth with `;
  if (box.dataset.text !== text) box.replaceChildren(text, make("code", "", "plinth up"), ".");
  box.dataset.text = text;
}

function status(state, label) {
  const box = byId("status");
  const text = box.querySelector(".label");
  box.className = `status ${state}`;
  if (text.textContent !== label) text.textContent = label; // a screen reader says each change, not each look
}

// -- the replicas of the last minutes --------------------------------------------------------------------------------
// Before this page was opened only changes of what was wanted are known: the events, taken back one by one.
function remember({ at, deployments, scale_events: events }) {
  if (!deployments.length) return; // nobody says
  const sum = (field) => deployments.reduce((total, one) => total + (one[field] ?? one.running), 0);
  const now = { at, running: sum("running"), target: sum("target") };
  if (!samples.length) {
    let target = now.target;
    for (const event of [...(events ?? [])].reverse()) {
      const when = Date.parse(event.ts) / 1000;
      if (when < at - KEPT_S) break;
      samples.unshift({ at: when, running: target, target });
      target -= event.after - event.before;
    }
    samples.unshift({ at: at - KEPT_S, running: target, target });
  }
  samples.push(now);
  // One that began before the time shown is kept: it says what held then.
  while (samples.length > 2 && samples[1].at <= at - KEPT_S) samples.shift();
}

// -- tiles and charts ------------------------------------------------------------------------------------------------
function tiles({ requests, deployments, collections, queue, supervisor }) {
  const running = deployments.reduce((total, one) => total + one.running, 0);
  const wanted = deployments.reduce((total, one) => total + (one.target ?? one.running), 0);
  const usual = collections?.find((one) => one.default);
  const seconds = queue.expected_wait_s;
  const facts = [
    ["Requests a second", requests ? requests.per_s.toFixed(1) : "–", "last minute"],
    ["P50", ms(requests?.p50_ms), "last 5 minutes"],
    ["P95", ms(requests?.p95_ms), `first text ${ms(requests?.first_p95_ms)}`],
    ["Waiting", whole(queue.inside), `the next one ${ms(seconds * 1000)}`],
    ["Refused, failed", requests ? `${whole(requests.refused)}, ${whole(requests.failed)}` : "–", "last 5 minutes"],
    ["Replicas", deployments.length ? `${running} of ${wanted}` : "–", supervisor?.restarts ? `put up again ${supervisor.restarts} times` : "running, wanted"],
    ["Age of the index", usual ? ago(usual.age_s) : "–", usual ? usual.name : "no index yet"],
  ];
  show("tiles", facts, () =>
    facts.map(([name, value, detail]) => make("div", "tile", make("dt", "", name), make("dd", "", value), make("dd", "detail", detail))),
  );
}

function charts({ at, requests, scale_events: events }) {
  const past = requests?.history;
  const made = past ? [load(past), latency(past)] : [];
  byId("charts").replaceChildren(...made, replicas(at, events ?? []));
}

function load(past) {
  const answered = past.requests.map((count, index) => count - past.refused[index] - past.failed[index]);
  const upTo = answered.map((count, index) => count + past.refused[index]);
  const most = Math.max(...past.requests, 1);
  const total = past.requests.reduce((sum, count) => sum + count, 0);
  const top = `${(most / past.step_s).toFixed(1)} a second`;
  const label = total ? `${whole(total)} requests in ten minutes, at most ${top}` : "no requests in the last ten minutes";
  return figure("Requests", label, total ? top : "none in ten minutes",
    [["good", "answered"], ["warn", "refused"], ["bad", "failed"]],
    bars("good", answered, answered.map(() => 0), most), bars("warn", past.refused, answered, most), bars("bad", past.failed, upTo, most)); // prettier-ignore
}

function latency(past) {
  const known = past.p95_ms.filter((value) => value !== null);
  const most = Math.max(...known, 1);
  const top = known.length ? ms(most) : "no answers in ten minutes";
  return figure("Latency", `P50 and P95 of answers; the highest P95 is ${top}`, top,
    [["good", "P50"], ["warn", "P95"]], line("warn", past.p95_ms, most), line("good", past.p50_ms, most)); // prettier-ignore
}

function replicas(at, events) {
  const from = at - KEPT_S;
  if (!samples.length) return figure("Replicas", "nobody says how many replicas run", "nobody says", []);
  const most = Math.max(...samples.map(({ running, target }) => Math.max(running, target)), 1);
  const points = (field) => samples.map((one) => ({ at: one.at, value: one[field] }));
  const times = events.map(({ ts }) => Date.parse(ts) / 1000).filter((when) => when >= from);
  const now = samples.at(-1);
  const label = `${now.running} replicas run, ${now.target} are wanted; ${times.length} changes in ten minutes`;
  return figure("Replicas", label, `${most}`, [["good", "running"], ["soft", "wanted"], ["event", "change"]],
    marks("event", times, from, at), steps("soft", points("target"), from, at, most), steps("good", points("running"), from, at, most)); // prettier-ignore
}

// -- hands -----------------------------------------------------------------------------------------------------------
const feed = new Feed("/v1/plinth/ops", { news, lost });
const pause = byId("pause");
pause.addEventListener("click", () => {
  const wanted = !feed.paused;
  pause.setAttribute("aria-pressed", String(wanted));
  if (wanted) status("waiting", `paused at ${clock(new Date())}`);
  feed.pause(wanted);
});
feed.look();
