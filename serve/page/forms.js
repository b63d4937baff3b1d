// What models that do not continue text answer: labels of a text, tokens in the place of masks.

import { post } from "./api.js";
import { element, percent } from "./dom.js";

export async function classify(model, text, signal) {
  const { data } = await post("/v1/classify", { model: model.id, input: text }, signal);
  const node = element("article", { class: "output", ariaLabel: model.id }, element("h3", {}, model.id));
  if (data[0].tokens) {
    const shown = element("p", { class: "text" });
    let at = 0;
    const characters = Array.from(text);
    for (const token of data[0].tokens) {
      shown.append(characters.slice(at, token.start).join(""));
      const title = `${token.label}, ${percent(token.score)}`;
      const own = token.label === "O" ? [] : [element("sub", {}, token.label)];
      shown.append(element("span", { class: own.length ? "known" : "", title }, token.text, ...own));
      at = token.end;
    }
    shown.append(characters.slice(at).join(""));
    node.append(shown);
  } else {
    const scores = Object.entries(data[0].probs).sort((a, b) => b[1] - a[1]);
    node.append(table("Labels", scores));
  }
  return node;
}

export async function fillMask(model, text, signal) {
  const { data } = await post("/v1/fill-mask", { model: model.id, input: text, top_k: 8 }, signal);
  const node = element("article", { class: "output", ariaLabel: model.id }, element("h3", {}, model.id));
  data.forEach((tokens, number) => {
    const rows = tokens.map((token) => [token.token_str, token.score]);
    node.append(table(data.length > 1 ? `Mask ${number + 1}` : "Tokens for the mask", rows));
  });
  return node;
}

function table(caption, scores) {
  const rows = scores.map(([name, score]) =>
    element("tr", {},
      element("th", { scope: "row" }, name),
      element("td", {}, percent(score)),
      element("td", {}, element("meter", { min: 0, max: 1, value: score, ariaLabel: name }))));
  return element("table", { class: "scores" }, element("caption", { class: "note" }, caption), element("tbody", {}, ...rows));
}
