// A request of the page to a model that writes text, and what comes back, shown as it comes.

import { ApiError, hasKey, stream } from "./api.js";
import { $, plural } from "./dom.js";

const NEUTRAL = { top_k: 0, presence_penalty: 0, frequency_penalty: 0, repetition_penalty: 1 };
const NUM_TOP = 5;
const KEY_VARIABLE = "GRISTMILL_API_KEY";
const ENDS = { length: "the limit of tokens was reached", stop: "the text ended" };

// The settings of the form as fields of a request. Those that change nothing are left out.
export function readSettings(model, chat) {
  const body = { model: model.id };
  for (const name of ["temperature", "top_p", "top_k", "max_tokens", "seed", "presence_penalty", "frequency_penalty", "repetition_penalty"]) {
    const value = $(name).valueAsNumber;
    if (!Number.isNaN(value) && value !== NEUTRAL[name]) body[name] = value;
  }
  const stop = $("stop").value.split("\n").filter((line) => line !== "");
  if (stop.length) body.stop = stop;
  if ($("logprobs").checked) Object.assign(body, chat ? { logprobs: true, top_logprobs: NUM_TOP } : { logprobs: NUM_TOP });
  if ($("sources").checked && model.gristmill.sources) body.sources = true;
  return body;
}

// Returns the text, also of a request that was stopped; null if it failed. The output says what happened.
export async function generate(output, path, body, signal) {
  const start = performance.now();
  let first = null;
  let end = null;
  let chunks = 0;
  const read = path.includes("chat") ? chatReader() : completionReader;
  try {
    for await (const chunk of stream(path, body, signal)) {
      const choice = chunk.choices[0];
      if (!choice) continue;
      const { text, tokens } = read(choice);
      if (text) {
        first ??= performance.now() - start;
        chunks += 1;
      }
      output.append(text, tokens);
      if (choice.gristmill_sources) output.updateSources(choice.gristmill_sources);
      end = choice.finish_reason ?? end;
    }
  } catch (error) {
    if (error.name === "AbortError") {
      output.finish(`Stopped after ${count(output, chunks)}.`);
      return output.text;
    }
    if (!(error instanceof ApiError)) throw error;
    output.fail(error.message);
    if (error.status === 401) $("key-dialog").showModal();
    return null;
  }
  const seconds = (performance.now() - start) / 1000;
  const rate = output.numTokens ? `, ${Math.round(output.numTokens / seconds)} tokens per second` : "";
  const begin = first === null ? "" : `; the first text after ${(first / 1000).toFixed(2)} s`;
  output.finish(`${count(output, chunks)} in ${seconds.toFixed(1)} s${rate}${begin}; ${ENDS[end] ?? end}.`);
  return output.text;
}

function count(output, chunks) {
  return output.numTokens ? plural(output.numTokens, "token") : plural(chunks, "piece");
}

function completionReader(choice) {
  const scores = choice.logprobs;
  const tokens = (scores?.tokens ?? []).map((token, index) => ({
    token,
    logprob: scores.token_logprobs[index],
    top: Object.entries(scores.top_logprobs?.[index] ?? {}).sort((a, b) => b[1] - a[1]),
    start: scores.text_offset[index],
  }));
  return { text: choice.text, tokens };
}

// Conversations give no positions, but the bytes of each token: a character begins at a byte that continues none.
function chatReader() {
  let position = 0;
  return (choice) => {
    const tokens = (choice.logprobs?.content ?? []).map((item) => {
      const bytes = item.bytes ?? [];
      const characters = bytes.filter((byte) => (byte & 0xc0) !== 0x80).length;
      const start = bytes.length && characters === 0 ? position - 1 : position;
      position += characters;
      const top = item.top_logprobs.map((other) => [other.token, other.logprob]);
      return { token: item.token, logprob: item.logprob, top, start };
    });
    return { text: choice.delta.content ?? "", tokens };
  };
}

// A JSON value as Python writes it.
function pythonLiteral(value) {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(pythonLiteral).join(", ")}]`;
  if (typeof value !== "object") return JSON.stringify(value);
  const items = Object.entries(value).map(([name, item]) => `${JSON.stringify(name)}: ${pythonLiteral(item)}`);
  return `{${items.join(", ")}}`;
}

// The request as a command and as Python code. An API key is not shown: both read it from the environment.
export function showCode(path, body) {
  const json = JSON.stringify(body).replaceAll("'", "'\\''");
  const authorization = hasKey() ? ` -H "Authorization: Bearer $${KEY_VARIABLE}"` : "";
  const curl = `curl ${location.origin}${path} -H 'Content-Type: application/json'${authorization} \\\n  -d '${json}'`;
  const known = new Set(["model", "prompt", "messages", "temperature", "top_p", "max_tokens", "seed", "stop", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs"]);
  const own = Object.entries(body).filter(([name]) => known.has(name));
  const extra = Object.fromEntries(Object.entries(body).filter(([name]) => !known.has(name)));
  const lines = own.map(([name, value]) => `    ${name}=${pythonLiteral(value)},`);
  if (Object.keys(extra).length) lines.push(`    extra_body=${pythonLiteral(extra)},`);
  const call = path.includes("chat") ? "chat.completions" : "completions";
  const python = [
    ...(hasKey() ? ["import os", ""] : []),
    "from openai import OpenAI", "",
    `client = OpenAI(base_url="${location.origin}/v1", api_key=${hasKey() ? `os.environ["${KEY_VARIABLE}"]` : '"none"'})`,
    `answer = client.${call}.create(`, ...lines, ")",
    `print(answer.choices[0].${path.includes("chat") ? "message.content" : "text"})`,
  ].join("\n");
  $("snippet").textContent = `${curl}\n\n${python}`;
  $("code").hidden = false;
}
