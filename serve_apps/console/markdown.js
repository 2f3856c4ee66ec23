// Markdown of a model or a document, as nodes. All of it is untrusted: markup in it is shown as text, never parsed, and
// what the Markdown parser makes goes through an allow list. Nothing is ever assigned to innerHTML.

import { Marked, Tokenizer } from "/console/vendor/marked.esm.js";
import DOMPurify from "/console/vendor/purify.es.mjs";
import { icon, make } from "/console/dom.js";

const MAX_CHARS = 20000; // longer answers are shown as plain text: some inputs take the parser time squared
const WORD = /[\p{L}\p{N}_]/u;
const SAFE = {
  ALLOWED_TAGS: [
    "p", "br", "hr", "strong", "em", "del", "code", "pre", "blockquote", "ul", "ol", "li", "a",
    "h1", "h2", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td",
  ],
  ALLOWED_ATTR: ["href", "start", "align", "class"],
  ADD_URI_SAFE_ATTR: ["start", "align"],
  ALLOWED_URI_REGEXP: /^https?:\/\//i,
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};

DOMPurify.addHook("afterSanitizeAttributes", (node) => {
  if (node.tagName !== "CODE" || !/^language-[\w+#.-]{1,20}$/.test(node.className)) node.removeAttribute("class");
  if (node.tagName !== "A") node.removeAttribute("href");
  else if (node.hasAttribute("href")) {
    node.target = "_blank";
    node.rel = "noopener noreferrer";
    node.title = node.href; // where it really leads, whatever its text says
  }
});

const escaped = (text) => text.replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`);

// Quoted passages are plain text more often than Markdown: __init__, a*b, C:\.venv and &amp; have to stay what they are.
const marked = new Marked({
  gfm: true,
  breaks: true,
  extensions: [
    {
      name: "citation", // before links: [1](elsewhere) must not lead anywhere else than to the source
      level: "inline",
      start: (source) => source.match(/\[\d{1,2}\]/)?.index,
      tokenizer(source) {
        const found = /^\[\d{1,2}\]/.exec(source);
        return found ? { type: "citation", raw: found[0] } : undefined;
      },
      renderer: (token) => token.raw,
    },
  ],
  tokenizer: {
    html: () => undefined,
    tag: () => undefined,
    def: () => undefined,
    del: (source) => (source.startsWith("~~") ? false : undefined),
    escape: (source) => (/^\\[*_`#~]/.test(source) ? false : undefined),
    emStrong(source, masked, before = "") {
      if (source[0] === "_" || WORD.test(before)) return undefined;
      const token = Tokenizer.prototype.emStrong.call(this, source, masked, before);
      return token && WORD.test(source[token.raw.length] ?? "") ? undefined : token;
    },
  },
  renderer: {
    text(token) {
      return token.tokens ? this.parser.parseInline(token.tokens) : escaped(token.text);
    },
    image: ({ text }) => escaped(text),
    checkbox: ({ checked }) => (checked ? "\u2611 " : "\u2610 "),
  },
});

// HTML as a fragment that holds nothing but what SAFE allows.
export function sanitised(html) {
  return DOMPurify.sanitize(html, SAFE);
}

// Markdown as a fragment: code blocks in frames with a copy button, [n] as marker buttons (disabled: see `linked`).
export function rendered(text) {
  const fragment = parsed(text);
  for (const pre of fragment.querySelectorAll("pre")) pre.replaceWith(framed(pre));
  replaceText(fragment, /\[(\d{1,2})\]/g, (found) => marker(found[1]));
  return fragment;
}

function parsed(text) {
  if (text.length <= MAX_CHARS) {
    try {
      return sanitised(marked.parse(text));
    } catch (error) {
      console.info(`shown as plain text: ${error.message}`); // nested too deep for the parser
    }
  }
  const fragment = document.createDocumentFragment();
  fragment.append(make("p", "plain", text));
  return fragment;
}

function framed(pre) {
  const language = pre.querySelector("code")?.className.replace("language-", "") ?? "";
  const copy = make("button", "copy-code", icon("copy"), make("span", "", "Copy"));
  copy.type = "button";
  copy.setAttribute("aria-label", "Copy code");
  pre.tabIndex = 0; // it may scroll sideways
  return make("div", "frame", make("div", "frame-head", make("span", "", language || "code"), copy), pre.cloneNode(true));
}

function marker(number) {
  const button = make("button", "marker", number);
  button.type = "button";
  button.disabled = true;
  button.dataset.source = String(Number(number));
  button.setAttribute("aria-label", `Source ${Number(number)}`);
  return button;
}

// The names of cited documents stand out in the text.
export function emphasiseNames(root, names) {
  const known = [...new Set(names)].filter(Boolean).sort((a, b) => b.length - a.length);
  if (!known.length) return;
  const pattern = known.map((name) => name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|");
  replaceText(root, new RegExp(`(?<![\\w.])(?:${pattern})(?![\\w]|\\.\\w)`, "g"), (found) => make("code", "", found[0]));
}

function replaceText(root, pattern, made) {
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  const texts = [];
  while (walker.nextNode()) texts.push(walker.currentNode);
  for (const node of texts) {
    if (node.parentElement?.closest("code, pre, a, button, .frame-head")) continue;
    const parts = [];
    let place = 0;
    for (const found of node.data.matchAll(pattern)) {
      parts.push(node.data.slice(place, found.index), made(found));
      place = found.index + found[0].length;
    }
    if (parts.length) node.replaceWith(...parts, node.data.slice(place));
  }
}

// Make `target` hold what `fragment` holds, leaving alone what is equal from the start: no flicker, and a selection in
// what is already written survives the next words.
export function patch(target, fragment) {
  let old = target.firstChild;
  let fresh = fragment.firstChild;
  while (old && fresh && old.isEqualNode(fresh)) {
    old = old.nextSibling;
    fresh.remove();
    fresh = fragment.firstChild;
  }
  while (old) {
    const next = old.nextSibling;
    old.remove();
    old = next;
  }
  target.append(fragment);
}
