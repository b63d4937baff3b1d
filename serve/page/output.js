// One text that a model writes: its tokens with their probabilities, and its passages of the training data.
//
// Positions are characters as the API counts them: Unicode code points, not the units of JavaScript's strings.

import { $, element, percent, plural, spell } from "./dom.js";

const MAX_QUOTE = 200;
const MAX_STEPS = 12;
let outputs = 0;

export class Output {
  constructor(model) {
    this.id = `output-${(outputs += 1)}`;
    this.model = model;
    this.length = 0;
    this.text = "";
    this.numTokens = 0;
    this.pieces = []; // {start, end, node}: in the order of the text, without gaps
    this.passages = [];
    this.body = element("div", {
      class: "text", role: "group", ariaLabel: `Text of ${model.id}. Arrow keys move between its tokens.`,
    });
    this.state = element("p", { class: "note state" });
    this.sources = element("section", { class: "sources", ariaLabel: `Sources of the text of ${model.id}`, hidden: true });
    this.node = element(
      "article", { class: "output", id: this.id, ariaLabel: model.id },
      element("h3", {}, model.id), this.body, this.state, this.sources,
    );
    this.body.ariaBusy = "true";
    this.body.addEventListener("keydown", (event) => this.move(event));
  }

  // Adds text, as one piece or as one piece per token. A token is {token, logprob, top: [[token, logprob]], start}:
  // `start` may lie before or after the text so far, which can hold back characters until they are complete.
  append(text, tokens) {
    this.text += text;
    const from = this.length;
    const characters = Array.from(text);
    this.length += characters.length;
    if (characters.length) this.add(from, this.length, text);
    for (const token of tokens) {
      this.numTokens += 1;
      (this.waiting ??= []).push(token);
    }
    this.place();
  }

  add(start, end, text) {
    const node = element("span", { class: "piece" }, text);
    this.pieces.push({ start, end, node });
    this.body.append(node);
  }

  // Gives tokens whose characters are there their pieces.
  place() {
    while (this.waiting?.length && this.waiting[0].start < this.length) {
      const token = this.waiting.shift();
      this.cut(token.start);
      const piece = this.pieces.find((item) => item.start === token.start);
      if (!piece || piece.token) continue; // several tokens of one character: the first one has it
      piece.token = token;
      piece.node.classList.add("token");
      piece.node.role = "button";
      piece.node.tabIndex = this.body.querySelector('[tabindex="0"]') ? -1 : 0;
      piece.node.setAttribute("aria-describedby", "details");
      const show = () => showDetails(piece.node, token);
      piece.node.addEventListener("pointerenter", show);
      piece.node.addEventListener("focus", () => {
        for (const other of this.body.querySelectorAll('[tabindex="0"]')) other.tabIndex = -1;
        piece.node.tabIndex = 0;
        show();
      });
      piece.node.addEventListener("click", () => piece.node.focus());
      piece.node.addEventListener("pointerleave", hideDetails);
      piece.node.addEventListener("blur", hideDetails);
    }
  }

  // Makes a piece begin at a character.
  cut(at) {
    const index = this.pieces.findIndex((item) => item.start < at && at < item.end);
    if (index < 0) return;
    const piece = this.pieces[index];
    const characters = Array.from(piece.node.textContent);
    const head = characters.slice(0, at - piece.start).join("");
    const node = element("span", { class: "piece" }, characters.slice(at - piece.start).join(""));
    piece.node.textContent = head;
    piece.node.after(node);
    this.pieces.splice(index + 1, 0, { start: at, end: piece.end, node });
    piece.end = at;
  }

  // Arrow keys, Home and End move between tokens; Enter goes to the source of the token.
  move(event) {
    const tokens = [...this.body.querySelectorAll(".token")];
    const at = tokens.indexOf(event.target);
    if (at < 0) return;
    const targets = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tokens.length - 1 };
    if (event.key in targets) {
      event.preventDefault();
      tokens[targets[event.key]]?.focus();
    } else if (event.key === "Enter" && event.target.dataset.passage !== undefined) {
      $(`${this.id}-passage-${event.target.dataset.passage}`)?.focus();
    }
  }

  // Takes what the API says of the text's sources: passages from `first` on, or why there are none.
  updateSources(update) {
    this.sources.hidden = false;
    if (update.error !== undefined) {
      this.sources.replaceChildren(element("p", { class: "note" }, `No sources: ${update.error}`));
      return;
    }
    this.passages.splice(update.first, Infinity, ...update.passages);
    for (const mark of this.body.querySelectorAll("a.reference")) mark.remove();
    for (const { start, end } of this.passages) {
      this.cut(start);
      this.cut(end);
    }
    for (const piece of this.pieces) {
      const number = this.passages.findIndex((item) => item.start < piece.end && piece.start < item.end);
      piece.node.classList.toggle("known", number >= 0);
      if (number >= 0) piece.node.dataset.passage = number;
      else delete piece.node.dataset.passage;
    }
    // From the last one on: of several after one piece, each is put before those that are there.
    for (const [number, passage] of [...this.passages.entries()].reverse()) {
      let last = this.pieces.findLastIndex((piece) => piece.end <= passage.end);
      while (this.isInWord(last)) last += 1;
      const name = `Source ${number + 1} of the text of ${this.model.id}`;
      const link = element("a", { class: "reference", href: `#${this.id}-passage-${number}`, ariaLabel: name }, `${number + 1}`);
      this.pieces[last]?.node.after(link);
    }
    this.listPassages(update.longest, update.min_tokens);
  }

  // Whether a word goes on after a piece.
  isInWord(index) {
    const [text, next] = [index, index + 1].map((at) => this.pieces[at]?.node.textContent ?? "");
    return /[\p{L}\p{N}]$/u.test(text) && /^[\p{L}\p{N}]/u.test(next);
  }

  listPassages(longest, minTokens) {
    const title = element("h4", {}, "Where the words come from");
    if (!this.passages.length) {
      const most = longest ? `; the longest one has ${plural(longest, "token")}` : "";
      const none = `No run of ${minTokens} or more tokens of this text is in the training data${most}.`;
      this.sources.replaceChildren(title, element("p", { class: "note" }, none));
      return;
    }
    const list = element("ol");
    this.passages.forEach((passage, number) => {
      const item = element("li", { id: `${this.id}-passage-${number}`, tabIndex: -1 });
      const characters = Array.from(passage.text);
      const more = characters.length > MAX_QUOTE ? "…" : "";
      const times = passage.count === 1 ? "once" : plural(passage.count, "time");
      item.append(
        element("q", {}, characters.slice(0, MAX_QUOTE).join("") + more),
        element("p", { class: "note" }, `${plural(passage.num_tokens, "token")}, ${times} in the training data`),
        passage.places.length
          ? element("ul", {}, ...passage.places.map(describePlace))
          : element("p", { class: "note" }, "Its documents were removed, and are no longer named."),
      );
      const mark = (on) => () => {
        for (const piece of this.pieces) {
          const inside = passage.start < piece.end && piece.start < passage.end;
          piece.node.classList.toggle("pointed", on && inside);
        }
      };
      for (const name of ["pointerenter", "focus"]) item.addEventListener(name, mark(true));
      for (const name of ["pointerleave", "blur"]) item.addEventListener(name, mark(false));
      list.append(item);
    });
    this.sources.replaceChildren(title, list);
  }

  finish(note) {
    this.body.ariaBusy = "false";
    this.state.textContent = note;
  }

  fail(message) {
    this.body.ariaBusy = "false";
    this.state.replaceWith(element("p", { class: "error", role: "alert" }, message));
  }
}

function describePlace(place) {
  const item = element("li");
  const name = place.url ?? place.id ?? "a document without address";
  if (/^https?:\/\//.test(place.url ?? "")) {
    item.append(element("a", { href: place.url, target: "_blank", rel: "noopener noreferrer" }, name));
  } else {
    item.append(element("span", { class: "address" }, name));
  }
  const facts = [`license ${place.license ?? "not known"}`];
  if (place.source) facts.push(`source ${place.source}`);
  for (const [model, steps] of Object.entries(place.steps)) {
    const shown = steps.slice(0, MAX_STEPS).join(", ");
    const more = steps.length > MAX_STEPS ? ` and ${steps.length - MAX_STEPS} more` : "";
    if (steps.length) facts.push(`read by ${model} in step ${shown}${more}`);
  }
  if (!Object.values(place.steps).some((steps) => steps.length)) facts.push("no training step read it");
  item.append(element("span", { class: "note" }, facts.join("; ")));
  return item;
}

function showDetails(node, token) {
  const row = (text, logprob, own) =>
    element("tr", { class: own ? "own" : "" },
      element("th", { scope: "row" }, spell(text)), element("td", {}, percent(Math.exp(logprob))));
  const rows = token.top.map(([text, logprob]) => row(text, logprob, text === token.token));
  if (!token.top.some(([text]) => text === token.token)) rows.push(row(token.token, token.logprob, true));
  const caption = element("caption", {}, `“${spell(token.token)}”: ${percent(Math.exp(token.logprob))}`);
  const details = $("details");
  details.replaceChildren(element("table", {}, caption, element("tbody", {}, ...rows)));
  details.hidden = false;
  const box = node.getClientRects()[0] ?? node.getBoundingClientRect();
  const width = document.documentElement.clientWidth;
  const left = Math.max(8, Math.min(box.left, width - details.offsetWidth - 8));
  const below = box.bottom + 6 + details.offsetHeight < document.documentElement.clientHeight;
  details.style.left = `${left + window.scrollX}px`;
  details.style.top = `${(below ? box.bottom + 6 : box.top - details.offsetHeight - 6) + window.scrollY}px`;
}

export function hideDetails() {
  $("details").hidden = true;
}
