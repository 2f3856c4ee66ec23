// The HTTP API as the page uses it: one streamed chat call as an async generator of events, and three small lists.

const MAX_TURNS = 20; // older turns stay on the page but are no longer sent
const MAX_CHARS = 24000;

export class ChatError extends Error {
  constructor(message, retry) {
    super(message);
    this.retry = retry;
  }
}

// Yields {text} as it streams in, and {plinth, finish} with the last chunk. Throws ChatError; a stream that ends without
// [DONE] is an error too, never a short answer. `collection` names what is asked; empty: the default one.
export async function* ask(messages, model, collection, signal) {
  const chosen = collection ? { plinth: { collection } } : {};
  const body = { model, stream: true, messages: recent(messages), ...chosen };
  const response = await post("/v1/chat/completions", body, signal);
  let finished = false;
  for await (const data of events(response.body)) {
    if (data === "[DONE]") {
      finished = true;
      break;
    }
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ChatError(chunk.error.message, true);
    const choice = chunk.choices[0];
    if (choice?.delta?.content) yield { text: choice.delta.content };
    if (chunk.plinth) yield { plinth: chunk.plinth, finish: choice?.finish_reason };
  }
  if (!finished) throw new ChatError("The connection broke before the answer was complete.", true);
}

// Says what an answer was worth: {answer_id, rating} and, where it may be used for training, {consent, question, answer}.
// Throws ChatError.
export async function judge(said) {
  await post("/v1/feedback", said);
}

// What may be asked for answers: [{id, note}], `auto` first. Throws what fetch throws.
export async function chatModels() {
  const { data } = await (await fetch("/v1/models")).json();
  const chats = data.filter((card) => card.plinth?.kind === "chat" && !card.plinth.collection);
  return chats.map((card) => ({ id: card.id, note: card.plinth.auto === false ? "gate not passed" : "" }));
}

// The collections, by name: [{id, default, index_version, index_as_of, chunks, ...}]. Throws what fetch throws.
export async function collections() {
  const response = await fetch("/v1/collections");
  if (!response.ok) throw new Error(`status ${response.status}`);
  return (await response.json()).data;
}

// A few questions from a collection's live index; counts as a request. Throws what fetch throws, and where there are none.
export async function exampleQuestions(collection) {
  const response = await fetch(`/v1/plinth/examples${collection ? `/${collection}` : ""}`);
  if (!response.ok) throw new Error(`status ${response.status}`);
  return (await response.json()).data.map((example) => example.question);
}

async function post(path, body, signal) {
  let response;
  try {
    response = await fetch(path, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
      signal,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ChatError("Plinth cannot be reached. Is it running?", true);
  }
  if (response.ok) return response;
  let message = `The service answered with status ${response.status}.`;
  try {
    message = (await response.json()).error.message;
  } catch {
    // not an error body of ours: keep the status
  }
  throw new ChatError(message, response.status >= 500 || response.status === 429);
}

function recent(messages) {
  const kept = [];
  let chars = 0;
  for (const message of messages.slice(-MAX_TURNS).reverse()) {
    chars += message.content.length;
    if (kept.length && chars > MAX_CHARS) break;
    kept.unshift(message);
  }
  return kept;
}

// The data of server-sent events, however the network cut the bytes.
async function* events(stream) {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  let buffer = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      buffer += decoder.decode(value, { stream: true });
      for (let end = buffer.indexOf("\n\n"); end >= 0; end = buffer.indexOf("\n\n")) {
        const event = buffer.slice(0, end);
        buffer = buffer.slice(end + 2);
        if (event.startsWith("data: ")) yield event.slice(6);
      }
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ChatError("The connection broke before the answer was complete.", true);
  } finally {
    reader.cancel().catch(() => {});
  }
}
