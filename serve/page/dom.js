// Elements in one line each. Text is always set as text: nothing a model writes becomes HTML.

export const $ = (id) => document.getElementById(id);

export function element(name, properties = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key === "class") node.className = value;
    else if (key in node) node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

export function percent(probability) {
  if (probability >= 0.0995) return `${Math.round(probability * 100)} %`;
  if (probability >= 0.001) return `${(probability * 100).toPrecision(2)} %`;
  return "below 0.1 %";
}

// Spaces and line ends of a token, so that they can be seen.
export function spell(token) {
  return token.replaceAll(" ", "␣").replaceAll("\n", "↵").replaceAll("\t", "⇥");
}

export function plural(count, noun) {
  return `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
}
