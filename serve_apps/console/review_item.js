// One thing that a guard found: what it is, and the buttons with which somebody says what it was.

import { make } from "/console/dom.js";

// As the service takes them; each with what it means to whoever decides.
const DECISIONS = {
  harmless: "the guard was wrong",
  injection: "an attack on the prompt",
  harmful: "asks for something harmful",
  unclear: "nobody can say; trains nothing",
};

// Calls decide(decision, note, list item) when a button is pressed.
export function itemRow(found, decide) {
  const row = make("li", "found");
  row.dataset.id = found.id;
  fill(row, found, decide);
  return row;
}

export function fill(row, found, decide) {
  const title = make("h2", "", make("code", "", found.rule), ` by ${found.guard}`);
  title.id = `h-${found.id}`;
  row.setAttribute("aria-labelledby", title.id);
  const text = make("pre", "", found.text);
  text.tabIndex = 0; // long texts scroll, also without a mouse
  text.setAttribute("aria-label", "Text, masked");
  row.replaceChildren(title, facts(found), text, ...(found.decision ? [said(found, row, decide)] : [choice(found, row, decide)]));
}

function facts(found) {
  const many = found.times > 1 ? `, ${found.times} times` : "";
  const shown = [
    ["Reason", found.reason || "–"],
    ["Score", found.score ? found.score.toFixed(2) : "–"],
    ["Found", `${found.at.slice(0, 16).replace("T", " ")} UTC${many}`],
    ["Tenant", found.collection ? `${found.tenant}, ${found.collection}` : found.tenant],
    ["Policy", found.policy || "–"],
  ];
  return make("dl", "facts", ...shown.map(([name, value]) => make("div", "", make("dt", "", name), make("dd", "", value))));
}

function said(found, row, decide) {
  const when = String(found.decided_at).slice(0, 16).replace("T", " ");
  const note = found.note ? `: ${found.note}` : "";
  const line = make("p", "said", make("span", `mark ${found.decision === "harmless" ? "good" : "warn"}`, found.decision),
    ` by ${found.by}, ${when} UTC${note} `); // prettier-ignore
  const change = button("Decide anew", "plain-link", () => {
    line.replaceWith(choice(found, row, decide));
    row.querySelector("button.quiet").focus();
  });
  line.append(change);
  return line;
}

function choice(found, row, decide) {
  const note = make("input", "");
  note.maxLength = 8000;
  note.placeholder = "why (kept with it)";
  note.value = found.note;
  note.setAttribute("aria-label", "Note");
  const buttons = Object.entries(DECISIONS).map(([decision, meaning]) => {
    const one = button(decision, "quiet", () => decide(decision, note.value.trim(), row));
    one.title = meaning;
    return one;
  });
  const group = make("div", "choice", ...buttons, note);
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", "It is");
  return group;
}

function button(label, className, onClick) {
  const made = make("button", className, label);
  made.type = "button";
  made.addEventListener("click", onClick);
  return made;
}
