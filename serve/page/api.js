// Requests to the endpoint of the server that this page comes from.

let key = null;

export function useKey(value) {
  key = value;
}

export function hasKey() {
  return key !== null;
}

// What went wrong, in words for a reader. `status` is that of HTTP; 0: there was no answer.
export class ApiError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

async function request(path, body, signal) {
  const headers = { "content-type": "application/json" };
  if (key !== null) headers.authorization = `Bearer ${key}`;
  let response;
  try {
    const options = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
    response = await fetch(path, { ...options, headers, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server does not answer. Is it still running?", 0);
  }
  if (response.ok) return response;
  const wait = response.headers.get("retry-after");
  let message = `The server answered with status ${response.status}.`;
  try {
    message = (await response.json()).error.message;
  } catch {
    // Not an error body of the API: a proxy in between.
  }
  if (wait !== null) message += ` Try again in ${wait} s.`;
  throw new ApiError(message, response.status);
}

export async function listModels() {
  return (await (await request("/v1/models")).json()).data;
}

export async function post(path, body, signal) {
  return (await request(path, body, signal)).json();
}

// Yields the JSON values of a stream of server-sent events, up to [DONE].
export async function* stream(path, body, signal) {
  const response = await request(path, { ...body, stream: true }, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      buffer += value;
      let end;
      while ((end = buffer.search(/\r?\n\r?\n/)) >= 0) {
        const event = buffer.slice(0, end);
        buffer = buffer.slice(end).replace(/^\r?\n\r?\n/, "");
        const data = event.split(/\r?\n/).filter((line) => line.startsWith("data:"));
        if (!data.length) continue;
        const text = data.map((line) => line.slice(5).trimStart()).join("\n");
        if (text === "[DONE]") return;
        const chunk = JSON.parse(text);
        if (chunk.error) throw new ApiError(chunk.error.message, 200);
        yield chunk;
      }
    }
  } catch (error) {
    if (error.name === "AbortError" || error instanceof ApiError) throw error;
    throw new ApiError("The connection to the server was lost.", 0);
  } finally {
    reader.cancel().catch(() => {});
  }
  throw new ApiError("The connection ended before the text did.", 0);
}
