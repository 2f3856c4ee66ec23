// One answer on the page: text as it streams in, then sources, what was done to it, and what one can do with it.

import { copy, iconButton, make, say } from "/console/dom.js";
import { emphasiseNames, patch, rendered } from "/console/markdown.js";

let serial = 0;

export class AnswerView {
  // `turn` is the assistant's turn as history.js describes it, still empty or restored; `on` is {retry, thumb,
  // several}: whether there are several collections that an answer may be from.
  constructor(container, turn, on) {
    this.id = `answer-${++serial}`;
    this.turn = turn;
    this.on = on;
    this.sources = [];
    this.timer = 0; // of the next drawing
    this.cost = 0; // milliseconds of the last one
    this.body = make("div", "text");
    this.node = make("article", "turn answer", this.body);
    this.node.setAttribute("aria-busy", "true");
    this.node.addEventListener("click", (event) => this.clicked(event));
    container.append(this.node);
  }

  // Shows a turn that ended before.
  restore() {
    const { content, plinth, failure } = this.turn;
    if (content) this.draw();
    if (plinth) this.finish();
    if (failure) this.fail(failure);
    this.settle();
  }

  add(text, drawn) {
    this.turn.content += text;
    // At most a fifth of the time goes into drawing, however long the answer grows.
    this.timer ||= setTimeout(() => {
      this.timer = 0;
      this.draw();
      drawn();
    }, Math.max(16, 4 * this.cost));
  }

  draw() {
    const began = performance.now();
    const fragment = rendered(this.turn.content);
    if (this.sources.length) {
      emphasiseNames(fragment, this.sources.map((source) => source.name));
      for (const marker of fragment.querySelectorAll(".marker")) this.link(marker);
    }
    patch(this.body, fragment);
    this.cost = performance.now() - began;
  }

  finish() {
    const { plinth, finish } = this.turn;
    if (!plinth.grounded && plinth.tier !== "courtesy") {
      this.node.classList.add("unknown");
      const withheld = finish === "content_filter";
      this.body.before(make("p", "badge", withheld ? "Withheld by the safety guard" : "Not in the documents"));
    }
    this.notes(plinth, finish);
    if (plinth.citations.length) this.node.append(this.sourceList(plinth.citations));
    this.draw();
    this.node.append(make("div", "actions", ...this.actions(), this.facts(plinth)));
  }

  settle() {
    if (this.timer) {
      clearTimeout(this.timer);
      this.timer = 0;
      this.draw();
    }
    this.node.removeAttribute("aria-busy");
  }

  clicked(event) {
    const button = event.target.closest?.("button");
    if (button?.classList.contains("marker")) this.show(this.sources[button.dataset.source - 1].details);
    else if (button?.classList.contains("copy-code")) {
      copy(button.closest(".frame").querySelector("pre").textContent.replace(/\n$/, ""), button);
    }
  }

  link(marker) {
    const source = this.sources[marker.dataset.source - 1];
    if (!source) return;
    marker.disabled = false;
    marker.title = source.name;
    marker.setAttribute("aria-label", `Source ${marker.dataset.source}: ${source.name}`);
    marker.setAttribute("aria-controls", source.details.id);
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
      if (citation.also.length) {
        const names = citation.also.map((copy) => copy.document).join(", ");
        details.append(make("p", "also", `Also in ${names}`));
      }
      details.id = `${this.id}-source-${index + 1}`;
      this.sources.push({ details, name: citation.document, place: citation.source });
      list.append(make("li", "", details));
    });
    return list;
  }

  notes(plinth, finish) {
    const redacted = (stage, prefix) =>
      plinth.verdicts.some((v) => v.stage === stage && v.action === "redact" && v.rule.startsWith(prefix));
    const notes = [];
    if (plinth.searched_for) notes.push(`Searched for: ${plinth.searched_for}`);
    if (redacted("guard_in", "pii")) notes.push("Personal data in the conversation was replaced before searching.");
    if (redacted("guard_in", "invisible")) notes.push("Invisible characters in the conversation were removed.");
    if (redacted("guard_out", "pii")) notes.push("Personal data in the answer was replaced.");
    if (plinth.dropped_passages) notes.push(`${plinth.dropped_passages} passages did not fit and were left out.`);
    if (finish === "length") notes.push("The answer was cut at its length limit.");
    this.node.append(...notes.map((note) => make("p", "note", note)));
  }

  actions() {
    const copyAnswer = iconButton("copy", "Copy answer", "", () => copy(this.asText(), copyAnswer));
    const thumbs = ["up", "down"].map((way) => {
      const label = way === "up" ? "Good answer" : "Bad answer";
      return iconButton("thumb", label, `thumb ${way}`, () => {
        this.turn.thumb = this.turn.thumb === way ? "" : way;
        show();
        say(this.turn.thumb ? `Marked: ${label}` : "Mark removed");
        this.on.thumb();
      });
    });
    const show = () => {
      thumbs.forEach((button, index) => {
        button.setAttribute("aria-pressed", String(this.turn.thumb === ["up", "down"][index]));
      });
    };
    show();
    return [copyAnswer, ...thumbs];
  }

  // The answer with the sources its markers refer to.
  asText() {
    const sources = this.sources.map(({ name, place }, index) => {
      return `[${index + 1}] ${name}${place && place !== name ? ` (${place})` : ""}`;
    });
    return [this.turn.content.trim(), sources.join("\n")].filter(Boolean).join("\n\n");
  }

  facts(plinth) {
    const ms = plinth.timings_ms;
    const round = (value) => (value < 10 ? value.toFixed(1) : String(Math.round(value)));
    const stages = make("dl", "stages");
    for (const [stage, value] of Object.entries(ms)) {
      if (stage !== "total") stages.append(make("div", "", make("dt", "", stage), make("dd", "", `${round(value)} ms`)));
    }
    for (const [name, value] of [
      ["model", plinth.model_version],
      ["collection", plinth.collection],
      ["index", `${plinth.index_version}, ${plinth.index_as_of.slice(0, 16).replace("T", " ")}`],
      ["answer", plinth.answer_id],
    ]) {
      stages.append(make("div", "wide", make("dt", "", name), make("dd", "", value)));
    }
    const total = ms.total === undefined ? "" : ` \u00b7 ${round(ms.total)} ms`;
    const from = plinth.collection && this.on.several() ? ` \u00b7 ${plinth.collection}` : "";
    return make("details", "facts", make("summary", "", `${plinth.tier}${from}${total}`), stages);
  }

  fail({ message, retry }) {
    const box = make("p", "failure", make("span", "", message));
    box.setAttribute("role", "alert");
    if (retry) {
      const again = make("button", "quiet needs-service", "Try again");
      again.type = "button";
      again.addEventListener("click", () => this.on.retry());
      box.append(again);
    }
    this.node.append(box);
  }
}
